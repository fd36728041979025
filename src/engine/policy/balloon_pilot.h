// BalloonPilot: flies one VM's balloon to the size that the policy wants, as far as the guest goes
// along. No clock, no I/O: it is told the time and what the balloon shows, and answers with the
// next request. Everything the guest says is clamped; a lying guest harms itself only.
//
//   steps        grows in steps that the guest can deliver within a second or so (measured rate),
//                shrinks at once
//   stuck        asked for more than kStuckAfter ago and nothing moved: the request is taken back
//                to what was reached, so that the driver does not burn the guest's CPU trying, and
//                tried again after a back-off that doubles
//   over-asked   the guest has less available than it needs to live, or swaps: it is given back
//   what
//                it lacks, and its balloon is not grown until it has had room for a while
//   no driver    the device never answered (guest booting, no driver): not counted on
#pragma once

#include <cstdint>
#include <string_view>

#include "machine/balloon.h"

namespace ballast::engine {

enum class BalloonCondition : uint8_t {
  kNone,         // no device, or ballooning is forbidden (maximum 0)
  kUnreachable,  // the monitor does not answer
  kNoDriver,     // the guest's driver has not shown itself: booting, or none
  kPaused,       // the VM is stopped: its driver cannot work
  kIdle,         // the size is what is wanted
  kInflating,
  kDeflating,
  kStuck,   // does not move towards what was asked
  kSpared,  // the guest could not spare more: over-asked, given back
  kFull,    // at its maximum
};
std::string_view name_of(BalloonCondition condition);

struct BalloonPlan {
  BalloonCondition condition = BalloonCondition::kNone;
  uint64_t size_bytes = 0;         // of the balloon now
  uint64_t request_bytes = 0;      // size that the guest should be asked for
  uint64_t deliverable_bytes = 0;  // what the balloon can be counted on to take further, from now
  double rate = 0;                 // bytes per second, as measured; a guess at first
};

class BalloonPilot {
 public:
  // How long a guest may take before it counts as stuck (peers: squeezed, 5 s).
  static constexpr Nanoseconds kStuckAfter = 5 * kSecond;

  // `wanted_bytes`: size that the policy wants now. `max_bytes`: sched.mem.maxmemctl.
  // `grow`: whether growing is allowed (the host is short, or the VM is above its limit).
  BalloonPlan fly(const machine::BalloonView& view, Nanoseconds now, uint64_t configured_bytes,
                  uint64_t wanted_bytes, uint64_t max_bytes, bool grow);

  // The last plan.
  const BalloonPlan& plan() const { return plan_; }

 private:
  void measure(uint64_t size, Nanoseconds now);
  bool over_asked(const machine::BalloonView& view, uint64_t configured_bytes, Nanoseconds now);

  BalloonPlan plan_;
  bool has_moved_ = false;  // the driver has done something since the guest's boot
  uint32_t resets_ = 0;
  uint64_t last_size_ = 0;
  Nanoseconds last_at_ = 0;   // when size was last looked at
  Nanoseconds moved_at_ = 0;  // when it last came closer to the request, or was asked anew
  Nanoseconds retry_at_ = 0;  // stuck: not before
  Nanoseconds backoff_ = 0;
  Nanoseconds spare_until_ = 0;  // over-asked: no growth before
  uint64_t need_bytes_ = 0;      // over-asked: what it lacked
};

}  // namespace ballast::engine
