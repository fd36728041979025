// Guest: the memory of one VM as amounts, seen from the guest (what it is good for) and from the
// host (is it there). No page has an identity here.
//
//             the host has it    the host paged it out    never touched, or in the balloon
//   in use    resident hot, cold   paged hot, cold          –
//   cache     resident cache       paged cache              –
//   free      resident stale, zero paged stale              untouched(), balloon()
//
// What the guest frees stays resident, "stale": the host is not told (unless by free-page
// reporting). Linux hands out first what was freed last, so stale memory is used again, and goes
// into the balloon, before untouched memory.
//
// resident + paged + untouched + balloon = configured, always.
#pragma once

#include "simulator/fluid/demand.h"
#include "simulator/fluid/plan.h"

namespace ballast::simulator::fluid {

// Pages that a Linux guest keeps free for itself: no balloon and no page cache gets them.
inline constexpr Bytes kGuestKeepsFree = 16 * kMb;

struct Held {
  Bytes hot = 0;    // in use, touched all the time
  Bytes cold = 0;   // in use, touched rarely
  Bytes cache = 0;  // page cache: the guest can drop it
  Bytes stale = 0;  // free again
  Bytes zero = 0;   // free, never used but zeroed at boot; never stored, only dropped
  Bytes in_use() const { return hot + cold; }
  Bytes total() const { return hot + cold + cache + stale + zero; }
};

// What the guest would touch within one step.
struct Wants {
  Bytes growth_wanted = 0;  // new use, what comes back from its own swap included
  Bytes growth = 0;         // of it, what there is room for inside
  Bytes reuse = 0;          // growth out of memory that the host has already given
  Bytes fresh = 0;          // growth that needs new frames
  Bytes zeroing = 0;        // the same, at boot
  Held back;                // paged out, touched: frames and a read; stale: growth
  Bytes cache_reuse = 0;    // page cache grows with what is there, nobody waits for it
  Bytes cache_fresh = 0;

  Bytes frames() const { return fresh + zeroing + back.total() + cache_fresh; }
  Bytes urgent_frames() const { return frames() - cache_fresh; }
};

struct Lived {
  Bytes frames = 0;        // taken from the host
  Bytes read = 0;          // of them, brought back from the host's stores
  double host_stall = 0;   // seconds of the step spent waiting for the host
  double guest_stall = 0;  // seconds spent on the guest's own swapping, or out of memory in it
};

class Guest {
 public:
  explicit Guest(const VmPlan& plan);

  // The demand moved; also sets what the guest has to grow.
  void follow(const DemandPoint& wish);
  // The guest makes room in itself for what it wants to grow: drops cache, swaps. Returns the
  // seconds that its own disk needed.
  double make_room(double seconds);
  Wants wants(double seconds) const;
  // One step: `frames` of the frames that it wants are granted, and that part of its reads that
  // `read_part` says. `swapped_part` of what is paged out lies on the disk, not in the cache.
  Lived live(const Wants& wants, Bytes frames, double read_part, double swapped_part,
             double seconds);
  // Free-page reporting. Returns what was given back.
  Bytes report_free(double seconds);

  // The balloon driver takes memory: what is free, or what the guest must be pressed for. Returns
  // what it got.
  Bytes give_free(Bytes most);
  Bytes give_pressed(Bytes most);
  void take_back(Bytes bytes);

  // The host pages out: the coldest first, except for the part `blind`, which hits anything.
  struct Evicted {
    Bytes frames = 0;
    Bytes stored = 0;  // the rest was known zero
  };
  Evicted evict(Bytes bytes, double blind);
  // The host brings back what is paged out, the hottest first. Returns how much.
  Bytes bring_back(Bytes bytes);

  const Held& resident() const { return resident_; }
  const Held& paged() const { return paged_; }
  Bytes balloon() const { return balloon_; }
  Bytes untouched() const;
  Bytes free_inside() const;  // what the guest itself sees as free
  Bytes cache() const { return resident_.cache + paged_.cache; }
  Bytes guest_swapped() const { return swapped_hot_ + swapped_cold_; }
  Bytes guest_swapped_in() const { return swap_in_total_; }
  Bytes guest_swapped_out() const { return swap_out_total_; }
  // In use and touched all the time; what it has not got yet included.
  Bytes wanted_hot() const { return wish_.used * wish_.active; }
  Bytes wanted() const { return wish_.used; }
  Bytes wanted_cache() const { return wish_.cache; }
  // Wanted at once and not there.
  Bytes missing() const { return pending_ + pending_zero_ + paged_.hot + swapped_hot_; }

 private:
  void check() const;
  Bytes returning(double seconds) const;

  Bytes configured_;
  Bytes swap_size_;
  DemandPoint wish_;
  Held resident_;
  Held paged_;
  Bytes balloon_ = 0;
  Bytes pending_ = 0;       // wanted, not touched yet
  Bytes pending_zero_ = 0;  // of the boot's zeroing
  Bytes swapped_hot_ = 0;   // on the guest's own swap
  Bytes swapped_cold_ = 0;
  Bytes swap_in_total_ = 0;
  Bytes swap_out_total_ = 0;
};

}  // namespace ballast::simulator::fluid
