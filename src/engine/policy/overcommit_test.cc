#include "engine/policy/overcommit.h"

#include <gtest/gtest.h>

namespace ballast::engine {
namespace {

TEST(Overcommit, NothingSeenIsNothing) { EXPECT_EQ(Overcommit().averages().percent_1min, 0u); }

TEST(Overcommit, TheFirstLookCountsAtOnce) {
  Overcommit overcommit;
  overcommit.see(150, 100, 7 * kSecond);
  EXPECT_EQ(overcommit.averages().percent_1min, 50u);
  EXPECT_EQ(overcommit.averages().percent_15min, 50u);
}

TEST(Overcommit, IsNeverNegative) {
  Overcommit overcommit;
  for (uint64_t second = 1; second < 100; ++second) overcommit.see(10, 100, second * kSecond);
  EXPECT_EQ(overcommit.averages().percent_5min, 0u);
}

TEST(Overcommit, FollowsWithItsTime) {
  Overcommit overcommit;
  Nanoseconds now = kSecond;
  for (; now < 3600 * kSecond; now += kSecond) overcommit.see(100, 100, now);
  for (int i = 0; i < 60; ++i, now += kSecond) overcommit.see(200, 100, now);
  // 1 − 1/e after the average's own time; 1 − e^(−1/5) and 1 − e^(−1/15) for the longer ones.
  EXPECT_NEAR(static_cast<double>(overcommit.averages().percent_1min), 63, 1);
  EXPECT_NEAR(static_cast<double>(overcommit.averages().percent_5min), 18, 1);
  EXPECT_NEAR(static_cast<double>(overcommit.averages().percent_15min), 6, 1);
}

TEST(Overcommit, DoesNotDependOnHowOftenItLooks) {
  Overcommit often;
  Overcommit seldom;
  often.see(130, 100, kSecond);
  seldom.see(130, 100, kSecond);
  for (Nanoseconds now = kSecond; now <= 121 * kSecond; now += kSecond / 4) {
    often.see(now <= 61 * kSecond ? 130 : 190, 100, now);
  }
  seldom.see(130, 100, 61 * kSecond);
  seldom.see(190, 100, 121 * kSecond);
  EXPECT_EQ(often.averages().percent_1min, seldom.averages().percent_1min);
}

TEST(Overcommit, AnEmptyHostAndABackwardClockDoNoHarm) {
  Overcommit overcommit;
  overcommit.see(100, 0, 0);
  overcommit.see(100, 0, 0);
  overcommit.see(~uint64_t{0}, 0, 5 * kSecond);
  overcommit.see(1, 1, 2 * kSecond);
  EXPECT_EQ(overcommit.averages().percent_1min, 1'000'000'000u);
}

}  // namespace
}  // namespace ballast::engine
