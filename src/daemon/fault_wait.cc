#include "daemon/fault_wait.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "machine/linux/unique_fd.h"

namespace ballast::daemon {

namespace {

// The CPU that a thread ran on last; −1 if it is none of the process (a kernel worker of KVM's, for
// one).
int thread_cpu(pid_t process, uint32_t thread) {
  std::array<char, 64> path{};
  std::array<char, 1024> text{};
  *fmt::format_to_n(path.data(), path.size() - 1, "/proc/{}/task/{}/stat", process, thread).out =
      '\0';
  const linux_machine::UniqueFd file(open(path.data(), O_RDONLY | O_CLOEXEC));
  if (!file.valid() || read(file.get(), text.data(), text.size() - 1) <= 0) return -1;
  const char* at = std::strrchr(text.data(), ')');  // field 2 ends here; "processor" is field 39
  for (int field = 2; at != nullptr && field < 39; ++field) at = std::strchr(at + 1, ' ');
  return at == nullptr ? -1 : std::atoi(at + 1);
}

}  // namespace

void FaultWait::served(Nanoseconds start, Nanoseconds end, uint32_t thread) {
  gap_ = (gap_ * 7 + std::min(start - last_fault_, kSecond)) / 8;
  last_fault_ = end;
  if (holds() && end - held_since_ > kHoldMax) hold_.release();
  if (end - looked_up_ < kMillisecond) return;
  looked_up_ = end;
  const int cpu = thread_cpu(process_, thread);
  pin(cpu);
  if (cpu < 0) return hold_.release();
  // Only for bursts: a vCPU that faults now and then is better off where the scheduler wants it.
  if (gap_ > kHoldGapMax || hold_.held() == static_cast<pid_t>(thread)) return;
  hold_.hold(static_cast<pid_t>(thread), cpu);
  held_since_ = end;
}

void FaultWait::let_loose() {
  pin(-1);
  hold_.release();
}

void FaultWait::pin(int cpu) {
  if (cpu == pinned_) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int each = 0; each < CPU_SETSIZE; ++each) {
    if (cpu < 0 || each == cpu) CPU_SET(static_cast<size_t>(each), &set);
  }
  // Where the kernel forbids it (a cpuset) the scheduler's choice is good enough.
  if (sched_setaffinity(0, sizeof(set), &set) == 0) pinned_ = cpu;
}

Nanoseconds FaultWait::poll_until(bool reading) const {
  if (reading && skips_ == 0) return last_fault_ + kReadPoll;
  if (spin_ > 0 && gap_ <= spin_) return last_fault_ + std::min(spin_, 4 * gap_);
  return 0;
}

void FaultWait::polled(bool reading, bool in_time) {
  if (!reading) return;
  if (skips_ > 0) {
    --skips_;
    return;
  }
  misses_ = in_time ? 0 : misses_ + 1;
  if (misses_ < kMissesMax) return;
  misses_ = 0;
  skips_ = kSkips;
}

}  // namespace ballast::daemon
