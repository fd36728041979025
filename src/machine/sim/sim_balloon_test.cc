// The simulated driver: how fast it moves, when it stops, and each of its misbehaviours.
#include "machine/sim/sim_balloon.h"

#include <gtest/gtest.h>

namespace ballast::machine::sim {
namespace {

using Link = BalloonView::Link;
using Stats = SimBalloonOptions::Stats;

constexpr uint64_t kMib = 1 << 20;
constexpr uint64_t kRam = 256 * kMib;

class SimBalloonTest : public testing::Test {
 protected:
  SimBalloonTest() {
    guest_.total_bytes = kRam;
    guest_.free_bytes = 128 * kMib;
    guest_.reclaimable_bytes = 32 * kMib;
  }
  // Steps of 10 ms.
  void run(SimBalloon& balloon, Nanoseconds span) {
    for (const Nanoseconds end = now_ + span; now_ < end; now_ += 10 * kMillisecond) {
      balloon.step(now_);
    }
    balloon.step(now_);
  }
  SimBalloon make(const SimBalloonOptions& options = {}) { return {guest_, kRam, options, 1}; }
  static void expect_near(uint64_t bytes, uint64_t expected) {
    EXPECT_NEAR(static_cast<double>(bytes), static_cast<double>(expected), 1.0 * kMib);
  }

  Nanoseconds now_ = 5 * kSecond;
  PlainGuest guest_;
};

TEST_F(SimBalloonTest, TakesFreePagesFastAndOthersSlowlyThenStops) {
  SimBalloon balloon = make();
  run(balloon, 10 * kSecond);
  EXPECT_EQ(balloon.view().link, Link::kReady);
  EXPECT_EQ(balloon.view().actual_bytes, kRam);
  balloon.request(0);
  run(balloon, kSecond);
  expect_near(balloon.size_bytes(), 64 * kMib);
  run(balloon, kSecond);
  expect_near(balloon.size_bytes(), 128 * kMib);
  EXPECT_LT(guest_.free_bytes, kMib);
  run(balloon, 2 * kSecond);
  expect_near(balloon.size_bytes(), 136 * kMib);
  run(balloon, 20 * kSecond);
  EXPECT_EQ(balloon.size_bytes(), 160 * kMib);
  EXPECT_EQ(balloon.view().actual_bytes, 96 * kMib);
  EXPECT_EQ(guest_.memory().available_bytes, 0u);
  // Somebody in the guest frees memory: the driver is still trying.
  guest_.reclaimable_bytes = 4 * kMib;
  run(balloon, 2 * kSecond);
  EXPECT_EQ(balloon.size_bytes(), 164 * kMib);
}

TEST_F(SimBalloonTest, StopsAtTheWishAndReturns) {
  SimBalloon balloon = make();
  balloon.request(200 * kMib);
  run(balloon, 5 * kSecond);
  EXPECT_EQ(balloon.view().actual_bytes, 200 * kMib);
  EXPECT_EQ(guest_.free_bytes, 72 * kMib);
  balloon.request(UINT64_MAX);
  run(balloon, 100 * kMillisecond);
  expect_near(balloon.size_bytes(), 56 * kMib - 26 * kMib);
  run(balloon, kSecond);
  EXPECT_EQ(balloon.size_bytes(), 0u);
  EXPECT_EQ(guest_.free_bytes, 128 * kMib);
}

TEST_F(SimBalloonTest, NoDeviceNoDriverOrADeafOne) {
  SimBalloon none = make({.device = false});
  SimBalloon deaf = make({.deaf = true});
  SimBalloon booting = make({.boot = 3 * kSecond});
  for (SimBalloon* const balloon : {&none, &deaf, &booting}) {
    balloon->request(100 * kMib);
    balloon->set_stats_period(1);
    now_ = 5 * kSecond;
    run(*balloon, 2 * kSecond);
    EXPECT_EQ(balloon->size_bytes(), 0u);
  }
  EXPECT_EQ(none.view().link, Link::kNone);
  EXPECT_FALSE(none.view().stats);
  EXPECT_TRUE(deaf.view().stats);
  EXPECT_FALSE(booting.view().stats);
  run(booting, 2 * kSecond);
  expect_near(booting.size_bytes(), 64 * kMib);
  EXPECT_TRUE(booting.view().stats);
}

TEST_F(SimBalloonTest, StopsHalfwayAndPops) {
  SimBalloon partial = make({.most_bytes = 10 * kMib});
  partial.request(0);
  run(partial, 5 * kSecond);
  EXPECT_EQ(partial.size_bytes(), 10 * kMib);
  SimBalloon popping = make({.pops = 20});
  popping.request(kRam - 20 * kMib);
  uint64_t least = kRam;
  for (int i = 0; i < 100; ++i) {
    run(popping, 100 * kMillisecond);
    if (i > 20) least = std::min(least, popping.size_bytes());
  }
  EXPECT_LT(least, 20 * kMib);
  EXPECT_GT(least, 10 * kMib);
}

TEST_F(SimBalloonTest, PausedOrUnreachableItDoesNotMove) {
  SimBalloon balloon = make();
  balloon.pause(true);
  balloon.request(0);
  run(balloon, kSecond);
  EXPECT_FALSE(balloon.view().vm_runs);
  EXPECT_EQ(balloon.size_bytes(), 0u);
  balloon.pause(false);
  run(balloon, kSecond);
  expect_near(balloon.size_bytes(), 64 * kMib);
  // The guest goes on with the last wish that arrived; the view stands still.
  balloon.set_reachable(false);
  const uint64_t shown = balloon.view().actual_bytes;
  balloon.request(kRam);
  run(balloon, kSecond);
  expect_near(balloon.size_bytes(), 128 * kMib);
  EXPECT_EQ(balloon.view().link, Link::kUnreachable);
  EXPECT_NE(balloon.view().problem, "");
  EXPECT_EQ(balloon.view().actual_bytes, shown);
  balloon.set_reachable(true);
  run(balloon, kSecond);
  EXPECT_EQ(balloon.view().actual_bytes, kRam);
}

TEST_F(SimBalloonTest, ResetEmptiesItUntilTheDriverIsBack) {
  SimBalloon balloon = make({.boot = kSecond});
  balloon.request(200 * kMib);
  balloon.set_stats_period(1);
  run(balloon, 4 * kSecond);
  ASSERT_EQ(balloon.view().actual_bytes, 200 * kMib);
  balloon.reset();
  EXPECT_EQ(balloon.view().resets, 1u);
  EXPECT_EQ(balloon.view().actual_bytes, kRam);
  EXPECT_FALSE(balloon.view().stats);
  EXPECT_EQ(guest_.free_bytes, 128 * kMib);
  run(balloon, 900 * kMillisecond);
  EXPECT_EQ(balloon.size_bytes(), 0u);
  run(balloon, 3 * kSecond);
  EXPECT_EQ(balloon.view().actual_bytes, 200 * kMib);
}

TEST_F(SimBalloonTest, TellsStatisticsInItsOwnWay) {
  const auto told = [this](const SimBalloonOptions& options) {
    SimBalloon balloon = make(options);
    balloon.request(kRam - 64 * kMib);
    balloon.set_stats_period(2);
    run(balloon, 10 * kSecond);
    const auto stats = balloon.view().stats;
    if (stats) {
      EXPECT_LE(now_ - stats->at, 2 * kSecond);
    }
    balloon.reset();
    return stats;
  };
  auto stats = told({});
  ASSERT_TRUE(stats);
  EXPECT_EQ(stats->total_bytes, kRam);
  EXPECT_EQ(stats->free_bytes, 64 * kMib);
  EXPECT_EQ(stats->available_bytes, 96 * kMib);
  EXPECT_EQ(stats->swap_out_bytes, std::nullopt);
  EXPECT_EQ(told({.total_shrinks = true})->total_bytes, kRam - 64 * kMib);
  EXPECT_EQ(told({.stats = Stats::kPoor})->available_bytes, 0u);
  EXPECT_EQ(told({.stats = Stats::kRich})->available_bytes, kRam);
  EXPECT_FALSE(told({.stats = Stats::kSilent}));
  EXPECT_NE(told({.stats = Stats::kNonsense})->total_bytes, kRam);
}

TEST_F(SimBalloonTest, TheViewMayBeOld) {
  SimBalloon balloon = make({.view_period = kSecond});
  balloon.request(0);
  run(balloon, 500 * kMillisecond);
  expect_near(balloon.size_bytes(), 32 * kMib);
  expect_near(balloon.view().actual_bytes, kRam);
  run(balloon, kSecond);
  expect_near(balloon.view().actual_bytes, kRam - 64 * kMib);
}

}  // namespace
}  // namespace ballast::machine::sim
