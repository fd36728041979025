#include "vcpu.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "guest_wire.h"

namespace ballast::microvm {

namespace {

constexpr uint64_t kHugePage = 2 << 20;
constexpr uint64_t kPresentWritableUser = 7;
constexpr uint64_t kHuge = 1 << 7;
constexpr uint64_t kTables = kTablesAddress;
constexpr uint64_t kTableBytes = kPageBytes;

// The header's own numbers are wrong in C++, where the empty struct inside kvm_cpuid2 takes room.
constexpr unsigned long kGetSupportedCpuid = _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0x05, 8);
constexpr unsigned long kSetCpuid2 = _IOC(_IOC_WRITE, KVMIO, 0x90, 8);

int must(int result, const char* what) {
  if (result < 0) die("%s: %s", what, strerror(errno));
  return result;
}

// Identity map of 2 MiB pages for all of the RAM: PML4, PDPT, one page directory per GiB.
void write_page_tables(std::byte* ram, size_t bytes) {
  auto table = [&](uint64_t number) {
    return reinterpret_cast<uint64_t*>(ram + kTables + number * kTableBytes);
  };
  const uint64_t gibs = (bytes + (1ull << 30) - 1) >> 30;
  if (kTables + (2 + gibs) * kTableBytes > kCodeAddress) die("at most 12 GiB of RAM");
  table(0)[0] = (kTables + kTableBytes) | kPresentWritableUser;
  for (uint64_t gib = 0; gib < gibs; ++gib) {
    table(1)[gib] = (kTables + (2 + gib) * kTableBytes) | kPresentWritableUser;
    for (uint64_t i = 0; i < 512; ++i) {
      table(2 + gib)[i] = ((gib * 512 + i) * kHugePage) | kPresentWritableUser | kHuge;
    }
  }
}

kvm_segment segment(uint16_t selector, uint8_t type, bool code) {
  kvm_segment s{};
  s.limit = 0xffffffff;
  s.selector = selector;
  s.type = type;
  s.present = 1;
  s.dpl = 3;
  s.s = 1;
  s.g = 1;
  s.l = code;
  s.db = !code;
  return s;
}

}  // namespace

void die(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("ballast-microvm: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  _exit(3);
}

Vm::Vm(std::byte* ram, size_t bytes, bool irqchip) : irqchip_(irqchip) {
  kvm_ = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (kvm_ < 0) die("/dev/kvm: %s", strerror(errno));
  fd_ = must(ioctl(kvm_, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
  ioctl(fd_, KVM_SET_TSS_ADDR, 0xfffbd000);  // Intel only
  if (irqchip) must(ioctl(fd_, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
  kvm_userspace_memory_region slot{};
  slot.memory_size = bytes;
  slot.userspace_addr = reinterpret_cast<uint64_t>(ram);
  must(ioctl(fd_, KVM_SET_USER_MEMORY_REGION, &slot), "KVM_SET_USER_MEMORY_REGION");
  write_page_tables(ram, bytes);
}

Vcpu::Vcpu(const Vm& vm, uint32_t number, uint64_t entry, uint64_t stack, uint64_t argument) {
  fd_ = must(ioctl(vm.fd(), KVM_CREATE_VCPU, number), "KVM_CREATE_VCPU");
  const int bytes = must(ioctl(vm.kvm(), KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
  void* shared =
      mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
  if (shared == MAP_FAILED) die("mapping a vCPU: %s", strerror(errno));
  run_ = static_cast<kvm_run*>(shared);

  std::vector<std::byte> buffer(sizeof(kvm_cpuid2) + 256 * sizeof(kvm_cpuid_entry2));
  auto* cpuid = reinterpret_cast<kvm_cpuid2*>(buffer.data());
  cpuid->nent = 256;
  must(ioctl(vm.kvm(), kGetSupportedCpuid, cpuid), "KVM_GET_SUPPORTED_CPUID");
  must(ioctl(fd_, kSetCpuid2, cpuid), "KVM_SET_CPUID2");
  set_registers(entry, stack, argument);
  if (vm.irqchip()) {  // otherwise all but the first wait for a start-up interrupt
    kvm_mp_state state{KVM_MP_STATE_RUNNABLE};
    must(ioctl(fd_, KVM_SET_MP_STATE, &state), "KVM_SET_MP_STATE");
  }
  const int khz = ioctl(fd_, KVM_GET_TSC_KHZ, 0);
  if (khz <= 0) die("KVM_GET_TSC_KHZ: the guest's clock has no known rate");
  tsc_khz_ = static_cast<uint64_t>(khz);
}

// CPL3 in long mode at once; code at CPL0 would be emulated where KVM shadows page tables.
void Vcpu::set_registers(uint64_t entry, uint64_t stack, uint64_t argument) const {
  kvm_sregs s{};
  must(ioctl(fd_, KVM_GET_SREGS, &s), "KVM_GET_SREGS");
  s.cr0 = 0x80010033;
  s.cr3 = kTablesAddress;
  s.cr4 = 0x620;
  s.efer = 0xd01;
  s.cs = segment(0x33, 11, true);
  s.ss = s.ds = s.es = s.fs = s.gs = segment(0x2b, 3, false);
  s.tr.type = 11;
  s.tr.present = 1;
  s.tr.s = 0;
  s.tr.limit = 0x67;
  s.ldt.unusable = 1;
  s.idt = {};
  s.gdt = {};
  must(ioctl(fd_, KVM_SET_SREGS, &s), "KVM_SET_SREGS");
  kvm_regs r{};
  r.rip = entry;
  r.rsp = stack - 8;  // as after a call
  r.rdi = argument;
  r.rflags = 0x3002;  // IOPL 3: `out` is allowed
  must(ioctl(fd_, KVM_SET_REGS, &r), "KVM_SET_REGS");
}

void Vcpu::run(const std::function<bool(uint16_t port)>& on_out) {
  for (;;) {
    if (ioctl(fd_, KVM_RUN, 0) < 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      die("KVM_RUN: %s", strerror(errno));
    }
    if (run_->exit_reason == KVM_EXIT_IO && run_->io.direction == KVM_EXIT_IO_OUT) {
      if (!on_out(run_->io.port)) return;
      continue;
    }
    if (run_->exit_reason == KVM_EXIT_INTR) continue;
    kvm_regs r{};
    ioctl(fd_, KVM_GET_REGS, &r);
    die("unexpected exit %u (internal error %u) at %#llx, rdi %#llx", run_->exit_reason,
        run_->exit_reason == KVM_EXIT_INTERNAL_ERROR ? run_->internal.suberror : 0, r.rip, r.rdi);
  }
}

}  // namespace ballast::microvm
