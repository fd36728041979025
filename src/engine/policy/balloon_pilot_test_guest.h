// A guest for the tests of the balloon pilot, and a flight that checks what must hold always.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "engine/policy/balloon_pilot.h"

namespace ballast::engine {

inline constexpr uint64_t kMb = uint64_t{1} << 20;
inline constexpr uint64_t kGb = uint64_t{1} << 30;

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

  machine::BalloonView view = {
      .link = machine::BalloonView::Link::kReady, .actual_bytes = 0, .stats = {}, .problem = {}};

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
    view.stats = machine::GuestStats{};
    view.stats->at = now;
    view.stats->total_bytes = configured;
    view.stats->available_bytes = configured - std::min(configured, balloon + uses);
    view.stats->swap_in_bytes = swapped_in_;
    view.stats->major_faults = 0;
  }

 private:
  uint64_t swapped_in_ = 0;
};

inline Guest silent() {
  Guest guest;
  guest.tells = false;
  return guest;
}

// Flies a guest, and checks what must hold always.
class Flight {
 public:
  explicit Flight(Guest with = {}) : guest(std::move(with)) {
    guest.show();
    if (guest.tells) guest.tell(now);
  }

  BalloonPlan tick(Nanoseconds time = kSecond) {
    const uint64_t before = plan.request_bytes;
    plan = pilot.fly(guest.view, now,
                     {.configured_bytes = guest.configured,
                      .held_bytes = guest.uses,
                      .wanted_bytes = wanted,
                      .max_bytes = max,
                      .grow = grow});
    if (flown_ && plan.request_bytes > before) raises.push_back(now);
    if (flown_ && plan.request_bytes != before) ++requests;
    check();
    // The first request to a device is what was found.
    flown_ = guest.view.link == machine::BalloonView::Link::kReady ||
             (flown_ && guest.view.link != machine::BalloonView::Link::kNone);
    if (!flown_) raises.clear();
    guest.live(plan.request_bytes, now + time, time);
    now += time;
    return plan;
  }
  BalloonPlan ticks(int count, Nanoseconds time = kSecond) {
    for (int i = 0; i < count; ++i) tick(time);
    return plan;
  }
  // Until a guest that has not told how it is is taken for one that does not tell.
  void listen() {
    const uint64_t want = std::exchange(wanted, 0);
    ticks(3);
    wanted = want;
  }
  // Ticks until `condition`; false after so many.
  bool until(BalloonCondition condition, int most, Nanoseconds time = kSecond) {
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
    const bool flies = guest.view.vm_runs && guest.view.link == machine::BalloonView::Link::kReady;
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

}  // namespace ballast::engine
