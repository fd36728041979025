// What holds for every guest, whatever it does.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "base/random.h"
#include "engine/policy/balloon_pilot_test_guest.h"

namespace ballast::engine {
namespace {

using machine::BalloonView;
using machine::GuestStats;
using Condition = BalloonCondition;
using Link = BalloonView::Link;

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
