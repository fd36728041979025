// VcpuHold: keeps one thread of a VM on the CPU where it runs, for the length of a burst of faults.
//
// A vCPU that is woken while the worker still runs on its CPU is moved to an idle one, and then
// both wake-ups of every fault cross CPUs: 50 µs instead of 9. Held on its CPU it waits the
// microseconds until the worker sleeps. The thread's own mask is written to a small file in the run
// directory before it is narrowed, so that whatever happens to this daemon the next one gives it
// back. A thread that an operator pinned to one CPU is left alone. The VM's worker only.
#pragma once

#include <sched.h>
#include <sys/types.h>

#include <string>

#include "base/result.h"
#include "machine/linux/mapping.h"
#include "machine/linux/unique_fd.h"

namespace ballast::daemon {

class VcpuHold {
 public:
  // `path`: the VM's own file. Gives back what a dead daemon left held in `process`.
  static Result<VcpuHold> open(const std::string& path, pid_t process);
  VcpuHold(VcpuHold&&) = default;
  ~VcpuHold() { release(); }

  // Lets go of another thread first. Does nothing for a thread that is not the process's.
  void hold(pid_t thread, int cpu);
  void release();
  pid_t held() const;  // 0: none

 private:
  struct Record {
    pid_t thread;  // 0: none is held. Stored last when holding, cleared last when releasing.
    cpu_set_t mask;
  };

  explicit VcpuHold(linux_machine::Mapping mapping) : mapping_(std::move(mapping)) {}
  Record* record() const;

  linux_machine::Mapping mapping_;
};

}  // namespace ballast::daemon
