#include "base/run_clock.h"

#include <gtest/gtest.h>

namespace ballast {
namespace {

TEST(RunClock, RunsWithTheClockBehindIt) {
  const RunClock clock;
  EXPECT_EQ(clock.at(1000), 1000u);
  EXPECT_EQ(clock.at(5000), 5000u);
}

TEST(RunClock, StandsWhileStoppedAndGoesOnWhereItStood) {
  RunClock clock;
  clock.set_running(false, 1000);
  EXPECT_EQ(clock.at(1700), 1000u);
  clock.set_running(true, 2000);
  EXPECT_EQ(clock.at(2000), 1000u);
  EXPECT_EQ(clock.at(2500), 1500u);
  clock.set_running(false, 3000);
  clock.set_running(true, 3100);
  EXPECT_EQ(clock.at(3100), 2000u);
}

TEST(RunClock, BeingToldTwiceChangesNothing) {
  RunClock clock;
  clock.set_running(true, 500);
  clock.set_running(false, 1000);
  clock.set_running(false, 1500);
  clock.set_running(true, 2000);
  clock.set_running(true, 2500);
  EXPECT_EQ(clock.at(3000), 2000u);
}

}  // namespace
}  // namespace ballast
