#include "qemu/kvm_probe.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <ctime>

#include "base/result.h"

namespace ballast::qemu {

namespace {

constexpr size_t kGuestBytes = 2 << 20;
constexpr uint64_t kCodeAddress = 0x4000;
constexpr uint64_t kRounds = 4'000'000;  // of two instructions
constexpr long kCpuLimitNanoseconds = 300'000'000;
constexpr uint64_t kLimitMicroseconds = kCpuLimitNanoseconds / 1000;

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }

 private:
  int fd_;
};

class Mapping {
 public:
  Mapping(size_t bytes, int flags, int fd)
      : bytes_(bytes), at_(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, fd, 0)) {}
  ~Mapping() {
    if (ok()) munmap(at_, bytes_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  bool ok() const { return at_ != MAP_FAILED; }
  char* get() const { return static_cast<char*>(at_); }

 private:
  size_t bytes_;
  void* at_;
};

// Sends SIGUSR1 to this thread when it has used its CPU time, which makes KVM_RUN return EINTR. CPU
// time, so that a busy host does not make a good KVM look bad.
class CpuLimit {
 public:
  CpuLimit() {
    struct sigaction ignore {};
    ignore.sa_handler = [](int) {};
    sigaction(SIGUSR1, &ignore, &before_);
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGUSR1;
    event._sigev_un._tid = static_cast<pid_t>(syscall(SYS_gettid));
    made_ = timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer_) == 0;
    itimerspec when{};
    when.it_value.tv_nsec = kCpuLimitNanoseconds;
    // Again and again: the first signal may come just before KVM_RUN.
    when.it_interval.tv_nsec = kCpuLimitNanoseconds / 10;
    if (made_) timer_settime(timer_, 0, &when, nullptr);
  }
  ~CpuLimit() {
    if (made_) timer_delete(timer_);
    sigaction(SIGUSR1, &before_, nullptr);
  }
  CpuLimit(const CpuLimit&) = delete;
  CpuLimit& operator=(const CpuLimit&) = delete;
  bool ok() const { return made_; }

 private:
  timer_t timer_{};
  bool made_ = false;
  struct sigaction before_ {};
};

void write_guest(char* memory) {
  // One 2 MiB page, identity-mapped: PML4 → PDPT → PD.
  const auto put = [memory](uint64_t address, uint64_t value) {
    std::memcpy(memory + address, &value, sizeof(value));
  };
  put(0x1000, 0x2000 | 3);
  put(0x2000, 0x3000 | 3);
  put(0x3000, 0x83);
  unsigned char code[] = {0xb9, 0,    0, 0, 0,  // mov ecx, rounds
                          0xff, 0xc9,           // dec ecx
                          0x75, 0xfc,           // jnz the line before
                          0xe6, 0x10,           // out 0x10, al
                          0xf4};                // hlt
  const auto rounds = static_cast<uint32_t>(kRounds);
  std::memcpy(code + 1, &rounds, sizeof(rounds));
  std::memcpy(memory + kCodeAddress, code, sizeof(code));
}

// 64-bit kernel mode, as a guest kernel's own code runs.
bool set_registers(int vcpu) {
  kvm_sregs special{};
  if (ioctl(vcpu, KVM_GET_SREGS, &special) != 0) return false;
  special.cr3 = 0x1000;
  special.cr4 = 0x20;        // PAE
  special.cr0 = 0x80010033;  // paging, protected mode
  special.efer = 0x500;      // long mode
  kvm_segment code{};
  code.limit = 0xffffffff;
  code.selector = 8;
  code.type = 11;
  code.present = 1;
  code.s = 1;
  code.l = 1;
  code.g = 1;
  kvm_segment data = code;
  data.selector = 16;
  data.type = 3;
  data.l = 0;
  data.db = 1;
  special.cs = code;
  special.ds = special.es = special.fs = special.gs = special.ss = data;
  if (ioctl(vcpu, KVM_SET_SREGS, &special) != 0) return false;
  kvm_regs general{};
  general.rip = kCodeAddress;
  general.rflags = 2;
  return ioctl(vcpu, KVM_SET_REGS, &general) == 0;
}

KvmProbe no(const std::string& what) { return {false, system_error(what).message}; }

KvmProbe run_guest(int vcpu, const kvm_run* run) {
  const CpuLimit limit;
  if (!limit.ok()) return no("timer_create");
  if (ioctl(vcpu, KVM_RUN, 0) == 0) {
    if (run->exit_reason == KVM_EXIT_IO) return {true, {}};
    return {false, fmt::format("KVM stopped a trivial 64-bit guest with exit reason {}",
                               run->exit_reason)};
  }
  if (errno != EINTR) return no("KVM_RUN");
  return {false, fmt::format(
                     "KVM interprets a guest kernel's code here ({} instructions did not finish in "
                     "{} ms of CPU time)",
                     2 * kRounds, kLimitMicroseconds / 1000)};
}

}  // namespace

KvmProbe probe_kvm() {
  const Descriptor kvm(open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (!kvm.ok()) return no("/dev/kvm");
  if (ioctl(kvm.get(), KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
    return {false, "/dev/kvm speaks another API version"};
  }
  const Descriptor machine(ioctl(kvm.get(), KVM_CREATE_VM, 0));
  if (!machine.ok()) return no("KVM_CREATE_VM");
  const Mapping memory(kGuestBytes, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  if (!memory.ok()) return no("mmap of the probe's memory");
  write_guest(memory.get());
  kvm_userspace_memory_region slot{};
  slot.memory_size = kGuestBytes;
  slot.userspace_addr = reinterpret_cast<uint64_t>(memory.get());
  if (ioctl(machine.get(), KVM_SET_USER_MEMORY_REGION, &slot) != 0) return no("KVM memory slot");
  const Descriptor vcpu(ioctl(machine.get(), KVM_CREATE_VCPU, 0));
  if (!vcpu.ok()) return no("KVM_CREATE_VCPU");
  const int run_bytes = ioctl(kvm.get(), KVM_GET_VCPU_MMAP_SIZE, 0);
  if (run_bytes <= 0) return no("KVM_GET_VCPU_MMAP_SIZE");
  const Mapping run(static_cast<size_t>(run_bytes), MAP_SHARED, vcpu.get());
  if (!run.ok()) return no("mmap of the vCPU");
  if (!set_registers(vcpu.get())) return no("KVM_SET_SREGS");
  return run_guest(vcpu.get(), reinterpret_cast<const kvm_run*>(run.get()));
}

}  // namespace ballast::qemu
