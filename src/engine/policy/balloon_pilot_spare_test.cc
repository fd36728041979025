// The balloon pilot and guests that can spare little: nothing they need is taken, or it is given
// back.
#include <gtest/gtest.h>

#include <vector>

#include "engine/policy/balloon_pilot_test_guest.h"

namespace ballast::engine {
namespace {

using machine::GuestStats;
using Condition = BalloonCondition;

TEST(BalloonPilot, IsNotAskedForWhatTheGuestNeedsToLive) {
  Guest guest;
  guest.uses = 600 * kMb;  // 5 % of a GB are 51.2 MB: 372.8 MB can go
  Flight flight(guest);
  flight.wanted = flight.max = 900 * kMb;
  EXPECT_TRUE(flight.until(Condition::kSpared, 20));
  flight.ticks(60);
  EXPECT_EQ(flight.plan.condition, Condition::kSpared);
  EXPECT_EQ(flight.plan.deliverable_bytes, 0u);
  EXPECT_EQ(flight.plan.request_bytes, flight.guest.balloon);
  const double left = 424.0 - static_cast<double>(flight.guest.balloon) / kMb;
  EXPECT_GE(left, 51.2);
  EXPECT_LT(left, 53.3);  // less than is worth asking for
  flight.guest.uses = 500 * kMb;
  flight.ticks(20);
  EXPECT_GE(flight.guest.balloon, 468 * kMb);
}

TEST(BalloonPilot, LittleMoreToSpareIsNotWorthAsking) {
  Guest guest;
  guest.uses = 600 * kMb;
  guest.tells_every = kSecond;
  Flight flight(guest);
  flight.wanted = flight.max = 900 * kMb;
  flight.ticks(30);
  flight.requests = 0;
  for (int i = 0; i < 100; ++i) {
    flight.guest.uses -= 40'960;
    flight.tick();
  }
  EXPECT_LE(flight.requests, 3);  // for 4 MB
}

TEST(BalloonPilot, OldStatisticsAreReadWithTheBalloonOfTheirTime) {
  Guest guest;
  guest.uses = 600 * kMb;
  guest.tells_every = 25 * kSecond;
  Flight flight(guest);
  flight.wanted = flight.max = 900 * kMb;
  flight.ticks(20);
  EXPECT_LE(flight.guest.balloon, 373 * kMb);
  EXPECT_GE(flight.guest.balloon, 368 * kMb);
}

TEST(BalloonPilot, StaleOrAbsurdStatisticsBindNothing) {
  const auto asked = [](auto spoil) {
    Flight flight;
    flight.guest.tells = false;
    flight.guest.uses = 1000 * kMb;  // true or not: it would allow nothing at all
    flight.listen();
    flight.guest.tell(flight.now);
    spoil(*flight.guest.view.stats);
    flight.wanted = 400 * kMb;
    return flight.tick().request_bytes;
  };
  EXPECT_EQ(asked([](GuestStats&) {}), 0u);
  EXPECT_EQ(asked([](GuestStats& s) { s.total_bytes = 0; }), 0u);  // that field only
  EXPECT_EQ(asked([](GuestStats& s) { s.total_bytes = 1 << 30 | 1; }), 0u);
  EXPECT_EQ(asked([](GuestStats& s) { s.at -= 31 * kSecond; }), 16 * kMb);
  EXPECT_EQ(asked([](GuestStats& s) { s.at += 1; }), 16 * kMb);
  EXPECT_EQ(asked([](GuestStats& s) { s.available_bytes = kGb + 1; }), 16 * kMb);
  EXPECT_EQ(asked([](GuestStats& s) { s.available_bytes.reset(); }), 16 * kMb);
  EXPECT_EQ(asked([](GuestStats& s) {
              s.available_bytes = 3;
              s.total_bytes = 2;
            }),
            16 * kMb);
}

TEST(BalloonPilot, GivesBackWhatAnOverAskedGuestLacks) {
  Flight flight;
  flight.wanted = 400 * kMb;
  flight.ticks(10);
  ASSERT_EQ(flight.guest.balloon, 400 * kMb);
  flight.guest.uses = 604 * kMb;  // 20 MB left of the 51.2 it needs: below half
  EXPECT_TRUE(flight.until(Condition::kSpared, 4));
  EXPECT_EQ(flight.plan.request_bytes, (kGb - 604 * kMb - kGb / 20) / 4096 * 4096);
  EXPECT_EQ(flight.plan.deliverable_bytes, 0u);
  const Nanoseconds since = flight.now;
  EXPECT_TRUE(flight.ticks(5).condition == Condition::kSpared);
  flight.guest.uses = 200 * kMb;
  EXPECT_TRUE(flight.until(Condition::kInflating, 60));
  EXPECT_NEAR(static_cast<double>(flight.now - since) / 1e9, 30, 1);
}

TEST(BalloonPilot, GivesBackOnceAndWaitsWhatComesOfIt) {
  Flight flight;
  flight.wanted = 400 * kMb;
  flight.ticks(10);
  flight.guest.uses = 604 * kMb;
  flight.guest.deflate_rate = 2 * kMb;
  flight.guest.tells_every = kSecond;
  ASSERT_TRUE(flight.until(Condition::kSpared, 4));
  const uint64_t asked = flight.plan.request_bytes;
  flight.wanted = 395 * kMb;  // between what it has and what it is asked to go down to
  while (flight.guest.balloon > asked) {
    EXPECT_EQ(flight.tick().request_bytes, asked);
    EXPECT_EQ(flight.plan.condition, Condition::kSpared);
  }
}

TEST(BalloonPilot, GivesBackAtLeastEightMbAndAtMostTheBalloon) {
  Guest guest;
  guest.configured = 64 * kMb;  // floor 16 MB
  guest.uses = 0;
  guest.balloon = 30 * kMb;
  guest.tells = false;
  Flight flight(guest);
  flight.wanted = 30 * kMb;
  flight.guest.tell(flight.now);
  flight.guest.view.stats->available_bytes = 7 * kMb;
  EXPECT_EQ(flight.tick().request_bytes, 21 * kMb);
  flight.ticks(5);
  flight.guest.tell(flight.now);
  flight.guest.view.stats->available_bytes = 8 * kMb - 1;
  EXPECT_EQ(flight.tick().request_bytes, 3 * kMb);  // 9 were not enough: 18 more
  flight.ticks(5);
  flight.guest.tell(flight.now);
  flight.guest.view.stats->available_bytes = 0;
  EXPECT_EQ(flight.tick().request_bytes, 0u);
}

// A daemon that died and came back has forgotten what the guest could not spare.
TEST(BalloonPilot, AGuestIsAskedHowItIsBeforeItIsAskedForMemory) {
  Guest guest = silent();
  guest.balloon = 300 * kMb;
  guest.uses = 700 * kMb;
  Flight flight(guest);
  flight.wanted = 400 * kMb;
  for (int i = 0; i < 10; ++i) EXPECT_EQ(flight.tick(kSecond / 4).request_bytes, 300 * kMb);
  flight.guest.tells = true;
  for (int i = 0; i < 20; ++i) EXPECT_LE(flight.tick(kSecond / 4).request_bytes, 300 * kMb);
}

// A report is old as soon as it is there.
TEST(BalloonPilot, WhatTheGuestTookSinceItsReportIsNotAvailable) {
  Guest guest;
  guest.uses = 300 * kMb;
  Flight flight(guest);
  flight.wanted = flight.max = 900 * kMb;
  flight.guest.tells = false;
  flight.grow = false;
  flight.ticks(3);
  flight.guest.uses = 800 * kMb;  // 172.8 MB can go
  flight.grow = true;
  flight.ticks(12);
  EXPECT_LE(flight.guest.balloon, 173 * kMb);
  EXPECT_GE(flight.guest.balloon, 168 * kMb);
  flight.guest.uses = 400 * kMb;  // it let go of that, not to the balloon
  flight.ticks(12);
  EXPECT_LE(flight.guest.balloon, 573 * kMb);
  EXPECT_GE(flight.guest.balloon, 568 * kMb);
}

TEST(BalloonPilot, AGrowingGuestIsLeftRoomToGrow) {
  Guest guest;
  guest.uses = 200 * kMb;
  Flight flight(guest);
  flight.wanted = flight.max = 900 * kMb;
  for (int i = 0; i < 39; ++i) {
    flight.grow = i >= 31;  // 123 MB can go
    flight.guest.uses += 20 * kMb;
    flight.tick(kSecond / 4);
    EXPECT_EQ(flight.guest.balloon, 0u) << i;
  }
  flight.ticks(30);
  EXPECT_EQ(flight.guest.balloon, 0u);
}

TEST(BalloonPilot, WhatTheBalloonTookWasNotLetGoOf) {
  Guest guest;
  guest.uses = 800 * kMb;  // 172.8 MB can go
  Flight flight(guest);
  flight.wanted = flight.max = 900 * kMb;
  flight.guest.tells = false;
  for (int i = 0; i < 20; ++i) {
    flight.guest.uses = 800 * kMb - flight.guest.balloon / 2;  // page cache
    flight.tick();
  }
  EXPECT_LE(flight.guest.balloon, 173 * kMb);
  EXPECT_GE(flight.guest.balloon, 168 * kMb);
}

TEST(BalloonPilot, AGuestThatSwapsIsGivenEightMbAtATime) {
  Flight flight;
  flight.wanted = 400 * kMb;
  flight.ticks(10);
  ASSERT_EQ(flight.guest.balloon, 400 * kMb);
  flight.guest.swap_in_rate = 190 * 4096;  // not yet
  EXPECT_FALSE(flight.until(Condition::kSpared, 20));
  flight.guest.swap_in_rate = 220 * 4096;
  int reports = 0;
  while (flight.plan.condition != Condition::kSpared && reports < 20) {
    flight.tick(2 * kSecond);
    ++reports;
  }
  EXPECT_GE(reports, 3);
  EXPECT_LE(reports, 5);
  EXPECT_EQ(flight.plan.request_bytes, 392 * kMb);
  // Again when it goes on, but not for every report.
  flight.ticks(2, 2 * kSecond);
  EXPECT_EQ(flight.plan.request_bytes, 392 * kMb);
  flight.ticks(2, 2 * kSecond);
  EXPECT_EQ(flight.plan.request_bytes, 384 * kMb);
}

TEST(BalloonPilot, AGuestThatSwapsWhileItShrinksIsNotGivenMoreYet) {
  Flight flight;
  flight.wanted = 400 * kMb;
  flight.ticks(10);
  flight.guest.swap_in_rate = 1000 * 4096;
  flight.guest.deflate_rate = kMb;
  ASSERT_TRUE(flight.until(Condition::kSpared, 10));
  while (flight.guest.balloon > 392 * kMb) EXPECT_EQ(flight.tick().request_bytes, 392 * kMb);
  EXPECT_TRUE(flight.ticks(10).request_bytes < 392 * kMb);
}

TEST(BalloonPilot, SwappingCountsOnlyWhileThereIsABalloon) {
  Flight flight;
  flight.guest.swap_in_rate = 1000 * 4096;
  flight.guest.tells_every = kSecond;
  flight.ticks(10);
  flight.wanted = 50 * kMb;
  EXPECT_FALSE(flight.until(Condition::kSpared, 3));
  EXPECT_TRUE(flight.until(Condition::kSpared, 3));
}

TEST(BalloonPilot, AGuestThatIsShortOfMemoryWithoutABalloonIsNotOverAsked) {
  Guest guest;
  guest.uses = 1010 * kMb;
  Flight flight(guest);
  flight.wanted = 300 * kMb;
  EXPECT_EQ(flight.ticks(10).request_bytes, 0u);
  flight.guest.uses = 200 * kMb;
  EXPECT_TRUE(flight.until(Condition::kInflating, 4));  // at once, no back-off
}

TEST(BalloonPilot, MajorFaultsCountAsSwapping) {
  Flight flight;
  flight.guest.tells = false;
  flight.guest.balloon = 300 * kMb;
  flight.guest.show();
  flight.wanted = 300 * kMb;
  for (uint64_t i = 0; i < 5; ++i) {
    flight.guest.tell(flight.now);
    flight.guest.view.stats->swap_in_bytes.reset();
    flight.guest.view.stats->major_faults = 1000 * i;
    flight.tick();
  }
  EXPECT_EQ(flight.plan.condition, Condition::kSpared);
}

TEST(BalloonPilot, AGuestThatTakesPagesBackKeepsThem) {
  Flight flight(silent());
  flight.wanted = 400 * kMb;
  EXPECT_TRUE(flight.until(Condition::kIdle, 40));
  flight.guest.balloon -= 30 * kMb;
  flight.guest.show();
  EXPECT_EQ(flight.tick().condition, Condition::kSpared);
  EXPECT_EQ(flight.plan.request_bytes, 370 * kMb);
  EXPECT_FALSE(flight.until(Condition::kInflating, 29));
  EXPECT_TRUE(flight.until(Condition::kInflating, 3));
}

TEST(BalloonPilot, AGuestThatIsSlowToStopShrinkingTakesNothingBack) {
  Flight flight(silent());
  flight.wanted = 400 * kMb;
  ASSERT_TRUE(flight.until(Condition::kIdle, 40));
  flight.guest.deflate_rate = 20 * kMb;
  flight.wanted = 100 * kMb;
  flight.ticks(2);
  flight.wanted = 400 * kMb;
  flight.guest.inflate_rate = 0;
  flight.tick();
  flight.guest.balloon -= 20 * kMb;  // it has not heard yet
  flight.guest.show();
  for (int i = 0; i < 4; ++i) EXPECT_EQ(flight.tick().condition, Condition::kInflating);
}

TEST(BalloonPilot, AGuestThatShrinksBetweenTwoCallsTakesNothingBack) {
  Flight flight(silent());
  flight.wanted = 400 * kMb;
  ASSERT_TRUE(flight.until(Condition::kIdle, 40));
  flight.wanted = 100 * kMb;
  flight.tick(10 * kSecond);
  EXPECT_EQ(flight.tick(10 * kSecond).condition, Condition::kIdle);
  flight.wanted = 200 * kMb;
  EXPECT_EQ(flight.tick().condition, Condition::kInflating);
}

TEST(BalloonPilot, BackOffsOfOverAskedGuestsDoubleToFiveMinutes) {
  Flight flight(silent());
  flight.wanted = 400 * kMb;
  std::vector<double> waits;
  for (int i = 0; i < 6; ++i) {
    ASSERT_TRUE(flight.until(Condition::kIdle, 400));
    flight.ticks(4);
    flight.guest.balloon -= 8 * kMb;
    flight.guest.show();
    ASSERT_EQ(flight.tick().condition, Condition::kSpared);
    const Nanoseconds since = flight.now;
    ASSERT_TRUE(flight.until(Condition::kInflating, 400));
    waits.push_back(static_cast<double>(flight.now - since) / 1e9);
  }
  EXPECT_EQ(waits, (std::vector<double>{30, 60, 120, 240, 300, 300}));
  // It has had room for long: forgiven.
  ASSERT_TRUE(flight.until(Condition::kIdle, 40));
  flight.ticks(301);
  flight.guest.balloon -= 8 * kMb;
  flight.guest.show();
  ASSERT_EQ(flight.tick().condition, Condition::kSpared);
  EXPECT_TRUE(flight.until(Condition::kInflating, 31));
}

}  // namespace
}  // namespace ballast::engine
