#include "daemon/vcpu_hold.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace ballast::daemon {

VcpuHold::Record* VcpuHold::record() const {
  return mapping_.bytes().empty() ? nullptr : reinterpret_cast<Record*>(mapping_.bytes().data());
}

Result<VcpuHold> VcpuHold::open(const std::string& path, pid_t process) {
  const linux_machine::UniqueFd file(
      ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.valid() || ftruncate(file.get(), sizeof(Record)) != 0) return system_error(path);
  BALLAST_TRY(auto mapping, linux_machine::Mapping::map(file.get(), sizeof(Record), path));
  VcpuHold hold(std::move(mapping));
  const pid_t left = hold.held();
  // The number may be another process's thread by now.
  if (left > 0 && access(fmt::format("/proc/{}/task/{}", process, left).c_str(), F_OK) == 0) {
    hold.release();
  } else {
    hold.record()->thread = 0;
  }
  return hold;
}

pid_t VcpuHold::held() const {
  const Record* now = record();
  return now == nullptr ? 0 : __atomic_load_n(&now->thread, __ATOMIC_RELAXED);
}

void VcpuHold::hold(pid_t thread, int cpu) {
  Record* now = record();
  if (now == nullptr || now->thread == thread) return;
  release();
  cpu_set_t mask;
  if (sched_getaffinity(thread, sizeof(mask), &mask) != 0 || CPU_COUNT(&mask) <= 1) return;
  now->mask = mask;
  __atomic_store_n(&now->thread, thread, __ATOMIC_RELEASE);
  cpu_set_t narrow;
  CPU_ZERO(&narrow);
  CPU_SET(static_cast<size_t>(cpu), &narrow);
  if (sched_setaffinity(thread, sizeof(narrow), &narrow) != 0) now->thread = 0;
}

void VcpuHold::release() {
  Record* now = record();
  if (now == nullptr || now->thread == 0) return;
  // Fails only when the thread is gone.
  (void)sched_setaffinity(now->thread, sizeof(now->mask), &now->mask);
  __atomic_store_n(&now->thread, 0, __ATOMIC_RELEASE);
}

}  // namespace ballast::daemon
