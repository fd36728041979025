#include "engine/policy/balloon_pilot.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "engine/policy/balloon_pilot_test_guest.h"

namespace ballast::engine {
namespace {

using Condition = BalloonCondition;
using Link = machine::BalloonView::Link;

Guest deaf(bool tells) {
  Guest guest;
  guest.inflate_rate = guest.deflate_rate = 0;
  guest.tells = tells;
  return guest;
}

TEST(BalloonPilot, WithoutADeviceThereIsNothingToFly) {
  Flight flight;
  flight.wanted = 100 * kMb;
  flight.guest.view.link = Link::kNone;
  EXPECT_EQ(flight.tick().condition, Condition::kNone);
  EXPECT_EQ(flight.plan.request_bytes, 0u);
  EXPECT_EQ(flight.plan.deliverable_bytes, 0u);
}

TEST(BalloonPilot, AMaximumOfNothingForbidsBallooning) {
  Flight flight;
  flight.wanted = 100 * kMb;
  flight.max = 0;
  EXPECT_EQ(flight.ticks(3).condition, Condition::kNone);
  EXPECT_EQ(flight.plan.request_bytes, 0u);
  flight.guest.view.vm_runs = false;
  EXPECT_EQ(flight.tick().condition, Condition::kNone);
}

TEST(BalloonPilot, AMonitorThatDoesNotAnswerStopsTheClock) {
  Flight flight(deaf(true));
  flight.wanted = 300 * kMb;
  flight.ticks(3);
  const uint64_t asked = flight.plan.request_bytes;
  EXPECT_EQ(asked, 64 * kMb);
  for (const Link link : {Link::kUnreachable, Link::kConnecting}) {
    flight.guest.view.link = link;
    EXPECT_EQ(flight.ticks(20).condition, Condition::kUnreachable);
    EXPECT_EQ(flight.plan.request_bytes, asked);
    EXPECT_EQ(flight.plan.deliverable_bytes, 0u);
  }
  flight.guest.view.link = Link::kReady;
  EXPECT_EQ(flight.tick().condition, Condition::kInflating);
}

TEST(BalloonPilot, AnObedientGuestEndsExactlyAtWhatIsWanted) {
  Flight flight;
  flight.wanted = 300 * kMb + 4096;
  EXPECT_EQ(flight.tick().condition, Condition::kInflating);
  EXPECT_TRUE(flight.until(Condition::kIdle, 10));
  EXPECT_EQ(flight.guest.balloon, flight.wanted);
  flight.wanted = 100 * kMb + 1234;  // not whole pages
  EXPECT_EQ(flight.tick().condition, Condition::kDeflating);
  EXPECT_TRUE(flight.until(Condition::kIdle, 3));
  EXPECT_EQ(flight.guest.balloon, 100 * kMb);
}

TEST(BalloonPilot, FirstStepsAreSmallerWhereTheGuestTellsNothing) {
  Flight flight;
  flight.wanted = 400 * kMb;
  EXPECT_EQ(flight.tick().request_bytes, 64 * kMb);
  Flight blind(silent());
  blind.listen();
  blind.wanted = 400 * kMb;
  EXPECT_EQ(blind.tick().request_bytes, 16 * kMb);
}

TEST(BalloonPilot, StepsFollowWhatTheGuestDelivers) {
  Guest fast;
  fast.configured = 64 * kGb;
  fast.inflate_rate = 10 * kGb;
  Flight flight(fast);
  flight.wanted = flight.max = 32 * kGb;
  flight.ticks(10);
  EXPECT_EQ(flight.plan.request_bytes - flight.plan.size_bytes, 256 * kMb);

  Guest slow;
  slow.inflate_rate = 2 * kMb;
  Flight crawl(slow);
  crawl.wanted = 400 * kMb;
  EXPECT_FALSE(crawl.until(Condition::kStuck, 60));
  EXPECT_NEAR(crawl.plan.rate, 2.0 * kMb, 0.2 * kMb);
  EXPECT_LE(crawl.plan.request_bytes - crawl.plan.size_bytes, 4 * kMb);
  EXPECT_GE(crawl.guest.balloon, 90 * kMb);
}

TEST(BalloonPilot, ASlowerGuestGetsSmallerStepsThanItEarnedBefore) {
  Guest guest;
  guest.configured = 64 * kGb;
  guest.inflate_rate = 10 * kGb;
  Flight flight(guest);
  flight.wanted = flight.max = 32 * kGb;
  flight.ticks(10);
  flight.guest.inflate_rate = 10 * kMb;
  flight.ticks(60);
  EXPECT_LE(flight.plan.request_bytes - flight.plan.size_bytes, 24 * kMb);
}

TEST(BalloonPilot, ShrinksAtOnce) {
  Flight flight;
  flight.wanted = 500 * kMb;
  flight.ticks(10);
  EXPECT_EQ(flight.guest.balloon, 500 * kMb);
  flight.wanted = 7 * kMb;
  EXPECT_EQ(flight.tick().request_bytes, 7 * kMb);
}

TEST(BalloonPilot, ShrinkingStopsWhenMoreIsWantedAgain) {
  Flight flight;
  flight.guest.deflate_rate = 50 * kMb;
  flight.wanted = 500 * kMb;
  flight.ticks(10);
  flight.wanted = 0;
  flight.ticks(2);
  EXPECT_EQ(flight.guest.balloon, 400 * kMb);
  for (const bool grow : {false, true}) {
    flight.grow = grow;
    flight.wanted = 600 * kMb;
    EXPECT_GE(flight.tick().request_bytes, 400 * kMb);
    EXPECT_EQ(flight.plan.condition, grow ? Condition::kInflating : Condition::kIdle);
  }
}

TEST(BalloonPilot, TakesOverABalloonAsItIs) {
  Guest guest;
  guest.balloon = 100 * kMb;
  Flight flight(guest);
  flight.grow = false;
  flight.wanted = 200 * kMb;
  EXPECT_EQ(flight.tick().request_bytes, 100 * kMb);
  EXPECT_EQ(flight.plan.condition, Condition::kIdle);
  EXPECT_EQ(flight.plan.size_bytes, 100 * kMb);

  guest.tells = false;  // but who has a balloon has a driver
  Flight silently(guest);
  EXPECT_EQ(silently.tick().deliverable_bytes, 550 * kMb);

  Flight paused(guest);
  paused.guest.view.vm_runs = false;
  EXPECT_EQ(paused.tick().request_bytes, 100 * kMb);
}

TEST(BalloonPilot, WithoutLeaveToGrowItOnlyShrinks) {
  Flight flight;
  flight.wanted = 400 * kMb;
  flight.ticks(3);
  flight.grow = false;
  flight.tick();
  const uint64_t size = flight.plan.size_bytes;
  EXPECT_GT(size, 0u);
  EXPECT_EQ(flight.plan.request_bytes, size);
  EXPECT_EQ(flight.ticks(10).condition, Condition::kIdle);
  EXPECT_EQ(flight.plan.request_bytes, size);
  flight.wanted = 10 * kMb;
  EXPECT_EQ(flight.tick().request_bytes, 10 * kMb);
}

TEST(BalloonPilot, AtItsMaximumItIsFull) {
  Flight flight;
  flight.wanted = 600 * kMb;
  flight.max = 300 * kMb;
  EXPECT_TRUE(flight.until(Condition::kFull, 10));
  EXPECT_EQ(flight.plan.size_bytes, 300 * kMb);
  EXPECT_EQ(flight.plan.deliverable_bytes, 0u);
  flight.max = 200 * kMb;
  EXPECT_EQ(flight.tick().condition, Condition::kDeflating);
  EXPECT_EQ(flight.tick().condition, Condition::kFull);
  flight.max = 0;
  flight.ticks(2);
  EXPECT_EQ(flight.plan.condition, Condition::kNone);
  EXPECT_EQ(flight.guest.balloon, 0u);
}

// --- guests that do not move

TEST(BalloonPilot, AStuckGuestIsAskedNoMoreForAWhile) {
  Flight flight;
  flight.wanted = 400 * kMb;
  flight.guest.spares = 100 * kMb;
  EXPECT_TRUE(flight.until(Condition::kStuck, 20));
  EXPECT_EQ(flight.guest.balloon, 100 * kMb);
  EXPECT_EQ(flight.plan.request_bytes, 100 * kMb);
  EXPECT_EQ(flight.plan.deliverable_bytes, 0u);
  std::vector<double> waits;
  for (int i = 0; i < 6; ++i) {
    Nanoseconds since = flight.now;
    while (flight.tick().request_bytes == 100 * kMb && flight.now < since + 400 * kSecond) {
    }
    EXPECT_EQ(flight.plan.condition, Condition::kStuck);  // until something moves
    EXPECT_EQ(flight.plan.deliverable_bytes, 0u);
    waits.push_back(static_cast<double>(flight.now - since) / 1e9);
    flight.ticks(5);
    EXPECT_EQ(flight.plan.request_bytes, 100 * kMb);
  }
  EXPECT_EQ(waits, (std::vector<double>{30, 60, 120, 240, 300, 300}));
  // It can spare more now: the next retry finds out, and all is forgotten.
  flight.guest.spares = 200 * kMb;
  EXPECT_TRUE(flight.until(Condition::kInflating, 310));
  EXPECT_TRUE(flight.until(Condition::kStuck, 20));
  const Nanoseconds since = flight.now;
  while (flight.tick().request_bytes == 200 * kMb && flight.now < since + 400 * kSecond) {
  }
  EXPECT_EQ(flight.now - since, 30 * kSecond);
}

TEST(BalloonPilot, UnexpectedProgressFreesAStuckGuest) {
  Flight flight;
  flight.wanted = 400 * kMb;
  flight.guest.spares = 100 * kMb;
  ASSERT_TRUE(flight.until(Condition::kStuck, 20));
  flight.guest.spares = ~uint64_t{0};
  flight.guest.balloon += 2 * kMb;
  flight.guest.show();
  EXPECT_EQ(flight.tick().condition, Condition::kInflating);
}

TEST(BalloonPilot, WhatAStuckGuestGaveBackItCanGiveAgain) {
  Flight flight;
  flight.wanted = 400 * kMb;
  flight.guest.spares = 100 * kMb;
  ASSERT_TRUE(flight.until(Condition::kStuck, 20));
  flight.wanted = 50 * kMb;
  flight.ticks(3);
  EXPECT_EQ(flight.plan.condition, Condition::kIdle);
  flight.wanted = 80 * kMb;
  flight.ticks(15);
  EXPECT_EQ(flight.guest.balloon, 80 * kMb);
}

TEST(BalloonPilot, AGuestThatDoesNotShrinkIsStuckButStaysAsked) {
  Guest guest;
  guest.balloon = 300 * kMb;
  guest.deflate_rate = 0;
  Flight flight(guest);
  flight.wanted = 100 * kMb;
  EXPECT_EQ(flight.ticks(5).condition, Condition::kDeflating);
  EXPECT_TRUE(flight.until(Condition::kStuck, 2));
  EXPECT_EQ(flight.plan.request_bytes, 100 * kMb);
  EXPECT_EQ(flight.plan.deliverable_bytes, 0u);
  flight.guest.deflate_rate = 20 * kMb;
  flight.ticks(2);
  EXPECT_EQ(flight.plan.condition, Condition::kDeflating);
}

TEST(BalloonPilot, APauseDoesNotLookLikeStuck) {
  Flight flight;
  flight.wanted = 400 * kMb;
  flight.ticks(2);
  flight.guest.inflate_rate = 0;
  flight.ticks(3);
  const uint64_t asked = flight.plan.request_bytes;
  flight.guest.view.vm_runs = false;
  EXPECT_EQ(flight.ticks(60).condition, Condition::kPaused);
  EXPECT_EQ(flight.plan.request_bytes, asked);
  EXPECT_EQ(flight.plan.deliverable_bytes, 0u);
  flight.guest.view.vm_runs = true;
  EXPECT_EQ(flight.tick().condition, Condition::kInflating);
  flight.guest.inflate_rate = kGb;
  EXPECT_TRUE(flight.until(Condition::kIdle, 30));
}

// --- guests without a driver

TEST(BalloonPilot, AGuestWithoutDriverIsProbedNowAndThen) {
  Flight flight(deaf(false));
  flight.listen();
  flight.wanted = 400 * kMb;
  EXPECT_EQ(flight.tick().deliverable_bytes, 0u);  // nothing is known of it
  EXPECT_EQ(flight.ticks(4).condition, Condition::kInflating);
  EXPECT_EQ(flight.tick().condition, Condition::kNoDriver);
  EXPECT_EQ(flight.plan.request_bytes, 0u);
  uint64_t probed = 0;
  for (int i = 0; i < 350; ++i) {
    EXPECT_EQ(flight.tick().condition, Condition::kNoDriver);
    EXPECT_LE(flight.plan.request_bytes, 16 * kMb);
    EXPECT_EQ(flight.plan.deliverable_bytes, 0u);
    probed = std::max(probed, flight.plan.request_bytes);
  }
  EXPECT_EQ(probed, 16 * kMb);
  EXPECT_EQ(flight.raises.size(), 11u);  // every 35 s
  // Its driver is loaded.
  flight.guest.inflate_rate = 100 * kMb;
  EXPECT_TRUE(flight.until(Condition::kInflating, 40));
  EXPECT_TRUE(flight.until(Condition::kIdle, 60));
  EXPECT_EQ(flight.guest.balloon, 400 * kMb);
}

TEST(BalloonPilot, ASmallDeliveryProvesADriver) {
  Flight flight(silent());
  flight.listen();
  flight.wanted = kMb / 2;
  EXPECT_TRUE(flight.until(Condition::kIdle, 3));
  EXPECT_EQ(flight.plan.deliverable_bytes, 650 * kMb - kMb / 2);
}

TEST(BalloonPilot, StatisticsProveADriver) {
  Flight flight(deaf(false));
  flight.listen();
  flight.wanted = 400 * kMb;
  ASSERT_TRUE(flight.until(Condition::kNoDriver, 7));
  flight.guest.inflate_rate = 100 * kMb;
  flight.guest.tell(flight.now);
  EXPECT_EQ(flight.tick().condition, Condition::kInflating);
  EXPECT_GT(flight.plan.deliverable_bytes, 0u);
}

TEST(BalloonPilot, ARebootStartsAnew) {
  Flight flight;
  flight.wanted = 400 * kMb;
  flight.guest.spares = 100 * kMb;
  ASSERT_TRUE(flight.until(Condition::kStuck, 20));
  // The firmware runs: no driver, and QEMU still shows the balloon of the system before.
  ++flight.guest.view.resets;
  flight.guest.spares = flight.guest.deflate_rate = 0;
  flight.tick();
  EXPECT_EQ(flight.plan.size_bytes, 0u);
  EXPECT_EQ(flight.plan.deliverable_bytes, 0u);
  EXPECT_LE(flight.plan.request_bytes, 64 * kMb);
  flight.guest.tells = false;
  EXPECT_TRUE(flight.until(Condition::kNoDriver, 7));
  EXPECT_EQ(flight.plan.request_bytes, 0u);
  flight.ticks(20);
  // Its driver comes.
  flight.guest = Guest{};
  flight.guest.view.resets = 1;
  flight.guest.show();
  flight.guest.tell(flight.now);
  EXPECT_EQ(flight.tick().condition, Condition::kInflating);
  EXPECT_TRUE(flight.until(Condition::kIdle, 20));
  EXPECT_EQ(flight.guest.balloon, 400 * kMb);
}

TEST(BalloonPilot, RebootsDoNotHurryIt) {
  Flight flight(deaf(true));
  flight.ticks(100);
  flight.wanted = 600 * kMb;
  for (int i = 0; i < 40; ++i) {
    flight.grow = i % 2 == 1;
    if (i % 2 == 0) ++flight.guest.view.resets;
    flight.tick(kSecond / 8);  // checks the times between raises
  }
  EXPECT_GE(flight.raises.size(), 4u);
}

TEST(BalloonPilot, CountsOnWhatTheMaximumAndTheGuestAllow) {
  Flight flight;
  EXPECT_EQ(flight.tick().deliverable_bytes, 650 * kMb);
  flight.wanted = 100 * kMb;
  ASSERT_TRUE(flight.until(Condition::kIdle, 10));
  EXPECT_EQ(flight.plan.deliverable_bytes, 550 * kMb);
  flight.max = 900 * kMb;  // 824 MB are available but for 51.2
  flight.tick();
  EXPECT_NEAR(static_cast<double>(flight.plan.deliverable_bytes) / kMb, 672.8, 0.01);
}

TEST(BalloonPilot, EveryConditionHasAName) {
  std::string all;
  for (int i = 0; i <= static_cast<int>(Condition::kFull); ++i) {
    all += name_of(static_cast<Condition>(i));
    all += ' ';
  }
  EXPECT_EQ(all, "none unreachable no-driver paused idle inflating deflating stuck spared full ");
}

}  // namespace
}  // namespace ballast::engine
