// BalloonPilot: flies one VM's balloon to the size that the policy wants, as far as the guest goes
// along. No clock, no I/O: it is told the time and what the balloon shows, and answers with the
// next request. Everything the guest says is clamped; a lying guest harms itself only.
//
//   steps        grows in steps that the guest can deliver within a second or so (measured rate),
//                never into what the guest needs to live (it is asked first how it is, and what
//                it took since then is gone, as what it will take meanwhile); shrinks at once
//   stuck        asked for more than kStuckAfter ago and nothing moved: the request is taken back
//                to what was reached, so that the driver does not burn the guest's CPU trying, and
//                tried again after a back-off that doubles. A guest that does not shrink counts as
//                stuck too, but stays asked: giving back costs it nothing
//   over-asked   the guest has less available than it needs to live, or swaps, or takes pages back
//                by itself: it is given back what it lacks (twice as much when that was not
//                enough), and its balloon is not grown until it has had room for a while
//   no-driver    the device never answered (guest booting, no driver): not counted on; probed
//   foreign      it grew further than we asked: somebody else asks too (virsh setmem, another
//                monitor). That stands, as a person's will; the balloon is left alone until that is
//                given back
//   reboot       nothing is in the balloon, and nothing is known of the driver, any more
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "machine/balloon.h"

namespace ballast::engine {

enum class BalloonCondition : uint8_t {
  kNone,         // no device, or ballooning is forbidden (maximum 0)
  kUnreachable,  // the monitor does not answer (yet)
  kNoDriver,     // the guest's driver has not shown itself: booting, or none
  kPaused,       // the VM is stopped: its driver cannot work
  kIdle,         // the size is what is wanted, or growing is not allowed
  kInflating,
  kDeflating,
  kStuck,    // does not move towards what was asked
  kSpared,   // the guest can spare no more: not grown, or given back what it lacked
  kFull,     // at its maximum
  kForeign,  // somebody else asked for its size: no request of ours counts
};
std::string_view name_of(BalloonCondition condition);

struct BalloonPlan {
  BalloonCondition condition = BalloonCondition::kNone;
  uint64_t size_bytes = 0;         // of the balloon now; the last one known while unreachable
  uint64_t request_bytes = 0;      // size to ask the guest for; means nothing while unreachable
  uint64_t deliverable_bytes = 0;  // what the balloon can be counted on to take further, from now
  double rate = 0;                 // bytes per second, as measured; a guess at first
};

class BalloonPilot {
 public:
  // How long a guest may take before it counts as stuck (peers: squeezed, 5 s).
  static constexpr Nanoseconds kStuckAfter = 5 * kSecond;

  // What the policy knows and wants. Sizes of balloons are rounded down to pages.
  struct Wish {
    uint64_t configured_bytes = 0;
    uint64_t held_bytes = 0;    // of the guest's memory, in whatever form: was not given up
    uint64_t wanted_bytes = 0;  // size of the balloon that the policy wants now
    uint64_t max_bytes = 0;     // sched.mem.maxmemctl
    bool grow = false;          // growing is allowed: the host is short, or the VM above its limit
  };
  // To be called every second or more often.
  BalloonPlan fly(const machine::BalloonView& view, Nanoseconds now, const Wish& wish);

  // The last plan.
  const BalloonPlan& plan() const { return plan_; }

 private:
  // What one call sees, clamped.
  struct Sight {
    uint64_t size = 0;
    uint64_t target = 0;  // what is wanted, at most max
    uint64_t max = 0;
    uint64_t floor = 0;               // what the guest needs to live
    std::optional<uint64_t> ceiling;  // the size that leaves it the floor; absent: not known
    uint64_t told_ceiling = 0;        // by what it told, whatever it has taken since
    bool grow = false;
  };
  // The guest's last statistics, and what the balloon was when they came.
  struct Report {
    Nanoseconds at = 0;
    uint64_t size = 0;
    std::optional<uint64_t> available;
    std::optional<uint64_t> swap_in_bytes;
    std::optional<uint64_t> major_faults;
    int64_t taken = 0;  // by the guest since then, of what was available
  };

  void begin(const machine::BalloonView& view, const Wish& wish);
  uint64_t size_of(const machine::BalloonView& view, uint64_t configured_bytes);
  bool read_report(const machine::BalloonView& view, uint64_t size, uint64_t configured_bytes);
  int64_t held_more(uint64_t size, uint64_t held, Nanoseconds elapsed);
  void find_ceiling(Sight& sight, Nanoseconds now, int64_t more);
  uint64_t will_take() const;
  bool is_foreign(const Sight& sight);
  void return_from_foreign(const Sight& sight);
  void note_request();
  void watch(const Sight& sight, Nanoseconds elapsed);
  void measure(const Sight& sight, Nanoseconds elapsed);
  std::optional<uint64_t> lacking(const Sight& sight, bool new_report);
  void spare(const Sight& sight, uint64_t lack);
  void give_up(const Sight& sight);
  void steer(const Sight& sight);
  void raise_to(uint64_t bytes);
  uint64_t step(const Sight& sight) const;
  bool spared() const { return clock_ < spare_until_; }
  BalloonCondition judge(const Sight& sight) const;
  uint64_t deliverable(const Sight& sight) const;

  BalloonPlan plan_;
  bool known_ = false;  // has seen a working device
  uint32_t resets_ = 0;
  // What QEMU showed when the guest rebooted; until it shows something else, it shows a balloon
  // that is gone: the device keeps the number until the new driver writes one.
  std::optional<uint64_t> stale_actual_;
  bool driver_seen_ = false;  // it has done something since the guest's boot

  // Runs only while the guest can work: a pause or a dead monitor is nobody's fault. All times
  // below are of this clock.
  Nanoseconds clock_ = 0;
  std::optional<Nanoseconds> last_call_;  // in the caller's time; absent: clock_ stands still

  uint64_t request_ = 0;
  Nanoseconds may_raise_at_ = 0;
  Nanoseconds heard_by_ = 0;  // nothing is asked before, unless the guest has told how it is
  uint64_t last_size_ = 0;
  double rate_ = 0;     // bytes per second
  bool eager_ = false;  // waits for a request: may be faster than measured

  // The most that our own requests explain, for as long as the guest may still follow an older one.
  uint64_t asked_most_ = 0;
  Nanoseconds asked_until_ = 0;
  uint64_t explained_ = 0;  // the most that it may hold without somebody else's doing
  bool foreign_ = false;

  int heading_ = 0;           // of the request, seen from the size: 1 grow, −1 shrink, 0 there
  uint64_t mark_ = 0;         // the furthest size on this heading
  Nanoseconds moved_at_ = 0;  // when that was reached, or the heading taken
  bool stuck_ = false;        // until something moves, retries included
  uint64_t stuck_size_ = 0;
  Nanoseconds retry_at_ = 0;
  Nanoseconds retry_after_ = 0;  // the present back-off

  std::optional<Report> report_;
  uint64_t guest_held_ = 0;   // of its memory, by the guest, at the last call
  double taking_ = 0;         // bytes per second, by the guest; smoothed
  int swapping_reports_ = 0;  // in a row
  uint64_t held_ = 0;         // the most that it has held since it had to shrink: falls below are
  Nanoseconds calm_at_ = 0;   // the guest's own idea, from then on
  Nanoseconds spare_until_ = 0;
  Nanoseconds spare_after_ = 0;  // the present back-off
  uint64_t given_back_ = 0;      // at the last report that showed it lacking; 0: it does not
};

}  // namespace ballast::engine
