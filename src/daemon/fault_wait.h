// FaultWait: where and how a worker waits for its VM's next fault. The worker's own; one thread.
// docs/adr/0009.
//
// A fault is two wake-ups, the worker's and the vCPU's, and one that crosses CPUs costs more than
// all of the fault's service. The vCPU sleeps in its fault, so the worker goes where that vCPU runs
// and sleeps in poll; a worker with reclaim to do is let loose again. While the disk reads for a
// fault nobody can use that CPU for this VM, so the worker polls the completion for as long as a
// fast disk takes; it stops doing so on a disk that is slower.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "base/units.h"
#include "daemon/vcpu_hold.h"

namespace ballast::daemon {

class FaultWait {
 public:
  // `spin`: Ballast.FaultSpinUs.
  FaultWait(pid_t process, Nanoseconds spin, VcpuHold hold)
      : process_(process), spin_(spin), hold_(std::move(hold)) {}

  // A batch of faults was served between these two moments; `thread` raised the last one (0:
  // unknown).
  void served(Nanoseconds start, Nanoseconds end, uint32_t thread);
  // The worker turned to background work.
  void let_loose();
  // A vCPU is held: sleep no longer than kHoldIdleMs for the next fault, then let loose.
  bool holds() const { return hold_.held() != 0; }
  static constexpr int kHoldIdleMs = 2;
  // Until when to poll instead of sleeping; in the past: not at all.
  Nanoseconds poll_until(bool reading) const;
  // Such polling found something in time, or did not.
  void polled(bool reading, bool in_time);

 private:
  static constexpr Nanoseconds kReadPoll =
      100 * kMicrosecond;  // a flash disk's read takes 30–80 µs
  static constexpr Nanoseconds kHoldGapMax = kMillisecond;
  static constexpr Nanoseconds kHoldMax = 10 * kMillisecond;  // then the scheduler may choose anew
  static constexpr uint32_t kMissesMax = 4;
  static constexpr uint32_t kSkips = 64;

  void pin(int cpu);

  const pid_t process_;
  const Nanoseconds spin_;
  Nanoseconds last_fault_ = 0;
  Nanoseconds gap_ = kSecond;  // moving average between batches of faults
  Nanoseconds looked_up_ = 0;
  VcpuHold hold_;
  Nanoseconds held_since_ = 0;
  int pinned_ = -1;      // CPU, −1: any
  uint32_t misses_ = 0;  // reads in a row that took longer than kReadPoll
  uint32_t skips_ = 0;   // then: reads not to poll for
};

}  // namespace ballast::daemon
