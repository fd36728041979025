// SimBalloon: a balloon device, its monitor and the driver in the guest, on simulated time. The
// owner calls step() whenever he likes; between two calls the driver moves as many pages as it had
// time for. One thread. Misbehaviour is in the options; all of it is what real guests do.
#pragma once

#include <algorithm>
#include <utility>

#include "base/random.h"
#include "machine/balloon.h"

namespace ballast::machine::sim {

// A guest's memory manager, as the balloon driver in it sees it.
class BalloonedGuest {
 public:
  enum class Page : uint8_t { kFree, kReclaimed, kNone };

  virtual ~BalloonedGuest() = default;
  // What it has; pages in the balloon are neither free nor available.
  virtual GuestStats memory() const = 0;
  // Moves a page into the balloon: a free one, or one that had to be made free first.
  virtual Page take_page() = 0;
  // Moves a page out of the balloon. False: none of them can be returned now.
  virtual bool return_page() = 0;
  // The guest boots anew: its balloon is empty.
  virtual void return_all() = 0;
};

// A guest that consists of numbers, for tests of policies. They may be changed at any time.
class PlainGuest final : public BalloonedGuest {
 public:
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;
  uint64_t reclaimable_bytes = 0;  // not free, but could be given up without swapping
  uint64_t swap_in_bytes = 0;

  GuestStats memory() const override {
    return {.total_bytes = total_bytes,
            .free_bytes = free_bytes,
            .available_bytes = free_bytes + reclaimable_bytes,
            .swap_in_bytes = swap_in_bytes};
  }
  Page take_page() override;
  bool return_page() override;
  void return_all() override { free_bytes += std::exchange(taken_bytes_, 0); }

 private:
  uint64_t taken_bytes_ = 0;
};

struct SimBalloonOptions {
  enum class Stats : uint8_t {
    kHonest,
    kSilent,    // the driver tells nothing
    kPoor,      // nothing is available, it says
    kRich,      // all is available, it says
    kNonsense,  // any numbers
  };

  bool device = true;
  Nanoseconds boot = 0;  // how long until the driver is there, after the start and after a reset
  // Bytes per second: of free pages, of pages that the guest must make free, and back.
  uint64_t free_rate = 64ull << 20;
  uint64_t reclaim_rate = 4ull << 20;
  uint64_t return_rate = 256ull << 20;
  bool deaf = false;                 // the driver never moves
  uint64_t most_bytes = UINT64_MAX;  // it stops at this size
  uint32_t pops = 0;                 // permille of steps: it returns pages by itself
  Stats stats = Stats::kHonest;
  bool total_shrinks = false;   // the total that it tells is without the balloon
  Nanoseconds view_period = 0;  // how old the size in the view may be
};

class SimBalloon final : public Balloon {
 public:
  SimBalloon(BalloonedGuest& guest, uint64_t ram_bytes, SimBalloonOptions options, uint64_t seed)
      : guest_(guest), ram_bytes_(ram_bytes), options_(options), random_(seed) {}

  void step(Nanoseconds now);
  void reset();  // the guest boots anew
  void pause(bool paused) { paused_ = paused; }
  void set_reachable(bool reachable) { reachable_ = reachable; }

  BalloonView view() const override;
  void request(uint64_t guest_bytes) override { wish_bytes_ = guest_bytes; }
  void set_stats_period(uint32_t seconds) override { stats_period_ = seconds * kSecond; }

  uint64_t size_bytes() const { return pages_to_bytes(pages_); }  // of the balloon, the truth

 private:
  void move();
  void tell();
  uint64_t target_pages() const;

  BalloonedGuest& guest_;
  const uint64_t ram_bytes_;
  const SimBalloonOptions options_;
  Random random_;

  Nanoseconds now_ = 0;
  Nanoseconds driver_at_ = UINT64_MAX;  // when it is there; unknown before the first step
  Nanoseconds next_at_ = 0;             // when it may move the next page
  uint64_t pages_ = 0;
  uint64_t wish_bytes_ = UINT64_MAX;    // as requested
  uint64_t target_bytes_ = UINT64_MAX;  // as the device knows it
  bool paused_ = false;
  bool reachable_ = true;
  uint32_t resets_ = 0;
  uint64_t shown_bytes_ = 0;  // balloon, as of shown_at_
  Nanoseconds shown_at_ = 0;
  Nanoseconds stats_period_ = 0;
  std::optional<GuestStats> stats_;
};

}  // namespace ballast::machine::sim
