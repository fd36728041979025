#include "base/random.h"

#include <gtest/gtest.h>

namespace ballast {
namespace {

TEST(Random, SameSeedSameNumbersOnEveryMachine) {
  Random random(42);
  EXPECT_EQ(random.next(), 0x15780b2e0c2ec716u);
}

TEST(Random, BoundsHold) {
  Random random(7);
  bool seen[10] = {};
  for (int i = 0; i < 1000; ++i) {
    const uint32_t value = random.below(10);
    ASSERT_LT(value, 10u);
    seen[value] = true;
    const uint64_t between = random.between(5, 6);
    ASSERT_TRUE(between == 5 || between == 6);
  }
  for (const bool hit : seen) EXPECT_TRUE(hit);
}

}  // namespace
}  // namespace ballast
