#include "base/latency.h"

#include <gtest/gtest.h>

namespace ballast {
namespace {

TEST(LatencyHistogram, QuantilesAreWithinAnEighth) {
  LatencyHistogram histogram;
  EXPECT_EQ(histogram.quantile(500), 0u);
  for (Nanoseconds took = 1; took <= 100000; ++took) histogram.record(took);
  for (const uint32_t permille : {10u, 500u, 900u, 990u}) {
    const double exact = 100.0 * permille;
    const auto found = static_cast<double>(histogram.quantile(permille));
    EXPECT_GE(found, exact);
    EXPECT_LE(found, exact * 1.126);
  }
}

TEST(LatencyHistogram, TakesTheLargestValue) {
  LatencyHistogram histogram;
  histogram.record(~Nanoseconds{0} >> 1);
  EXPECT_GT(histogram.quantile(500), Nanoseconds{1} << 61);
}

}  // namespace
}  // namespace ballast
