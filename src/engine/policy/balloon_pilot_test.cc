#include "engine/policy/balloon_pilot.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"

namespace ballast::engine {
namespace {

using machine::BalloonView;
using machine::GuestStats;
using Condition = BalloonCondition;
using Link = BalloonView::Link;

constexpr uint64_t kMb = uint64_t{1} << 20;
constexpr uint64_t kGb = uint64_t{1} << 30;

// A guest and its driver, as far as a pilot can tell.
struct Guest {
  uint64_t configured = kGb;
  uint64_t balloon = 0;
  uint64_t inflate_rate = 200 * kMb;  // bytes per second
  uint64_t deflate_rate = kGb;
  uint64_t spares = ~uint64_t{0};  // it inflates no further
  bool tells = true;               // statistics
  uint64_t uses = 200 * kMb;       // of its memory
  uint64_t swap_in_rate = 0;       // bytes per second
  Nanoseconds tells_every = 2 * kSecond;

  BalloonView view = {.link = Link::kReady, .actual_bytes = 0, .stats = {}, .problem = {}};

  void live(uint64_t asked, Nanoseconds now, Nanoseconds time) {
    const auto of = [&](uint64_t rate) {
      return static_cast<uint64_t>(static_cast<double>(rate) * static_cast<double>(time) / 1e9) /
             4096 * 4096;
    };
    if (!view.vm_runs) return;
    if (asked < balloon) {
      balloon -= std::min(balloon - asked, of(deflate_rate));
    } else if (balloon < spares) {
      balloon += std::min(std::min(asked, spares) - balloon, of(inflate_rate));
    }
    swapped_in_ += of(swap_in_rate);
    show();
    if (tells && (!view.stats || now - view.stats->at >= tells_every)) tell(now);
  }
  void show() { view.actual_bytes = configured - balloon; }
  void tell(Nanoseconds now) {
    view.stats = GuestStats{};
    view.stats->at = now;
    view.stats->total_bytes = configured;
    view.stats->available_bytes = configured - std::min(configured, balloon + uses);
    view.stats->swap_in_bytes = swapped_in_;
    view.stats->major_faults = 0;
  }

 private:
  uint64_t swapped_in_ = 0;
};

// Flies a guest, and checks what must hold always.
class Flight {
 public:
  explicit Flight(Guest with = {}) : guest(std::move(with)) {
    guest.show();
    if (guest.tells) guest.tell(now);
  }

  BalloonPlan tick(Nanoseconds time = kSecond) {
    const uint64_t before = plan.request_bytes;
    plan = pilot.fly(guest.view, now, guest.configured, wanted, max, grow);
    if (flown_ && plan.request_bytes > before) raises.push_back(now);
    if (flown_ && plan.request_bytes != before) ++requests;
    check();
    // The first request to a device is what was found.
    flown_ = guest.view.link == Link::kReady || (flown_ && guest.view.link != Link::kNone);
    if (!flown_) raises.clear();
    guest.live(plan.request_bytes, now + time, time);
    now += time;
    return plan;
  }
  BalloonPlan ticks(int count, Nanoseconds time = kSecond) {
    for (int i = 0; i < count; ++i) tick(time);
    return plan;
  }
  // Ticks until `condition`; false after so many.
  bool until(Condition condition, int most, Nanoseconds time = kSecond) {
    for (int i = 0; i < most; ++i) {
      if (tick(time).condition == condition) return true;
    }
    return false;
  }

  Guest guest;
  BalloonPilot pilot;
  BalloonPlan plan;
  Nanoseconds now = 1000 * kSecond;
  uint64_t wanted = 0;
  uint64_t max = 650 * kMb;
  bool grow = true;
  std::vector<Nanoseconds> raises;
  int requests = 0;
  bool failed = false;

 private:
  void check() {
    // While the guest cannot work, the request stays what it was, whatever the maximum is now.
    const bool flies = guest.view.vm_runs && guest.view.link == Link::kReady;
    const bool in_bounds = !flies || plan.request_bytes <= max;
    const size_t n = raises.size();
    const bool unhurried = n < 3 || raises[n - 1] - raises[n - 3] >= kSecond;
    const bool deliverable = plan.deliverable_bytes <= max;
    failed |= !in_bounds || !unhurried || !deliverable;
    EXPECT_TRUE(in_bounds) << plan.request_bytes;
    EXPECT_TRUE(unhurried);
    EXPECT_TRUE(deliverable) << plan.deliverable_bytes;
  }
  bool flown_ = false;
};

Guest silent() {
  Guest guest;
  guest.tells = false;
  return guest;
}
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

// --- what the guest needs

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
  EXPECT_EQ(flight.tick().request_bytes, 21 * kMb - 8 * kMb - 4096);
  flight.ticks(5);
  flight.guest.tell(flight.now);
  flight.guest.view.stats->available_bytes = 0;
  EXPECT_EQ(flight.tick().request_bytes, 0u);
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
  EXPECT_EQ(flight.raises.size(), 10u);  // every 35 s
  // Its driver is loaded.
  flight.guest.inflate_rate = 100 * kMb;
  EXPECT_TRUE(flight.until(Condition::kInflating, 40));
  EXPECT_TRUE(flight.until(Condition::kIdle, 60));
  EXPECT_EQ(flight.guest.balloon, 400 * kMb);
}

TEST(BalloonPilot, StatisticsProveADriver) {
  Flight flight(deaf(false));
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

// --- properties

Guest any_guest() {
  Guest guest;
  guest.configured = *rc::gen::element<uint64_t>(64, 1024, 4096, 65'536) * kMb;
  guest.inflate_rate = *rc::gen::element<uint64_t>(2, 10, 64, 300, 4096) * kMb;
  guest.deflate_rate = *rc::gen::element<uint64_t>(10, 100, 4096) * kMb;
  guest.uses = guest.configured / 100 * *rc::gen::inRange<uint64_t>(0, 100);
  guest.tells = *rc::gen::arbitrary<bool>();
  guest.tells_every = *rc::gen::inRange<uint64_t>(1, 40) * kSecond;
  guest.balloon = guest.configured / 4096 / 100 * *rc::gen::inRange<uint64_t>(0, 60) * 4096;
  return guest;
}

Nanoseconds any_tick() {
  return *rc::gen::element<uint64_t>(100, 250, 500, 990, 1000, 1010) * kMillisecond;
}

RC_GTEST_PROP(BalloonPilotProperty, AnObedientGuestSettlesAndIsLeftAlone, ()) {
  Guest guest = any_guest();
  guest.uses = 0;
  Flight flight(guest);
  const Nanoseconds tick = any_tick();
  flight.wanted = *rc::gen::inRange<uint64_t>(0, guest.configured / 100 * 90);
  flight.max = guest.configured / 100 * 65;
  const uint64_t end = std::min(flight.wanted, flight.max) / 4096 * 4096;
  const uint64_t way = std::max(end, guest.balloon) - std::min(end, guest.balloon);
  const uint64_t rate = std::min(guest.inflate_rate, guest.deflate_rate);
  // A quarter of the speed of the guest, and some seconds for the first steps.
  const Nanoseconds enough = (way / rate * 4 + way / (32 * kMb) + 30) * kSecond;
  for (const Nanoseconds start = flight.now; flight.now < start + enough;) flight.tick(tick);
  RC_ASSERT(flight.guest.balloon == end);
  RC_ASSERT(flight.plan.condition ==
            (end == flight.max / 4096 * 4096 ? Condition::kFull : Condition::kIdle));
  const int requests = flight.requests;
  flight.ticks(400, tick);
  RC_ASSERT(flight.requests == requests);
  RC_ASSERT(flight.guest.balloon == end);
  RC_ASSERT(!flight.failed);
}

RC_GTEST_PROP(BalloonPilotProperty, AGuestWithLittleToSpareIsLeftAloneToo, ()) {
  Guest guest = any_guest();
  guest.balloon = 0;
  guest.tells = true;
  guest.tells_every = 2 * kSecond;
  Flight flight(guest);
  flight.wanted = flight.max = flight.guest.configured / 100 * 90;
  const Nanoseconds tick = any_tick();
  for (Nanoseconds start = flight.now; flight.now < start + 40'000 * kSecond;) {
    if (flight.tick(tick).condition != Condition::kInflating) break;
  }
  flight.ticks(50, tick);
  const int requests = flight.requests;
  flight.ticks(1000, tick);
  RC_ASSERT(flight.requests == requests);
  const uint64_t floor = std::max(16 * kMb, flight.guest.configured / 20);
  const uint64_t left = flight.guest.configured -
                        std::min(flight.guest.configured, flight.guest.uses + flight.guest.balloon);
  RC_ASSERT(flight.guest.balloon == 0u || left >= floor);
  RC_ASSERT(!flight.failed);
}

RC_GTEST_PROP(BalloonPilotProperty, AGuestThatStopsIsFoundOutInTime, ()) {
  Guest guest = any_guest();
  guest.uses = 0;
  const uint64_t percent = guest.configured / 4096 / 100 * 4096;
  guest.spares = *rc::gen::inRange<uint64_t>(0, 40) * percent;
  guest.balloon = std::min(guest.balloon, guest.spares);
  Flight flight(guest);
  flight.wanted = flight.max = flight.guest.configured / 100 * 60;
  const Nanoseconds tick = any_tick();
  Nanoseconds stopped = flight.now;
  uint64_t reached = flight.guest.balloon;
  for (;;) {
    flight.tick(tick);
    if (flight.plan.condition == Condition::kStuck || flight.plan.condition == Condition::kNoDriver)
      break;
    RC_ASSERT(flight.now - stopped <= 6 * kSecond + 2 * tick);
    if (flight.guest.balloon >= reached + kMb ||
        flight.guest.balloon == flight.plan.request_bytes) {
      reached = flight.guest.balloon;
      stopped = flight.now;
    }
  }
  RC_ASSERT(flight.plan.request_bytes == flight.guest.balloon);
  RC_ASSERT(flight.plan.size_bytes == flight.guest.balloon);
  RC_ASSERT(flight.plan.deliverable_bytes == 0u);
  RC_ASSERT(!flight.failed);
}

// Whatever a guest does and an administrator wants.
RC_GTEST_PROP(BalloonPilotProperty, SurvivesLiarsThievesAndPausesWithoutHurry, ()) {
  Random random(*rc::gen::arbitrary<uint64_t>());
  Flight flight(any_guest());
  const auto any = [&]() -> std::optional<uint64_t> {
    switch (random.below(5)) {
      case 0:
        return std::nullopt;
      case 1:
        return random.next();
      case 2:
        return 0;
      default:
        return random.between(0, flight.guest.configured);
    }
  };
  flight.max = flight.guest.configured / 100 * random.below(101);
  const uint32_t restless = random.below(200);  // per mille of the ticks
  for (int i = 0; i < 500; ++i) {
    BalloonView& view = flight.guest.view;
    if (random.chance(restless)) flight.wanted = random.between(0, flight.guest.configured * 2);
    if (random.chance(restless)) flight.grow = !flight.grow;
    if (random.chance(restless)) view.vm_runs = !view.vm_runs;
    if (random.chance(restless)) view.link = static_cast<Link>(random.below(4));
    if (random.chance(restless)) view.resets += random.below(2);
    if (random.chance(restless)) {
      flight.guest.balloon -= std::min(flight.guest.balloon, uint64_t{4096} * random.below(10'000));
      flight.guest.show();
    }
    if (random.chance(restless)) view.actual_bytes = any().value_or(~uint64_t{0});
    if (random.chance(restless * 2)) {
      view.stats = GuestStats{any(), any(), any(), any(), any(), any(), any().value_or(flight.now)};
    }
    flight.tick(random.between(1, 2000) * kMillisecond);
    RC_ASSERT(!flight.failed);
    RC_ASSERT(flight.plan.size_bytes <= flight.guest.configured);
    RC_ASSERT(flight.plan.rate >= 0);
  }
}

}  // namespace
}  // namespace ballast::engine
