// vcpu.h: the little of KVM that the micro-VM needs: one memory slot, vCPUs that start at CPL3 in
// long mode.
//
// No interrupts, no kernel: the guest program talks by `out`, which leaves KVM_RUN. Failures of KVM
// end the process with a message.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

struct kvm_run;

namespace ballast::microvm {

[[noreturn]] __attribute__((format(printf, 1, 2))) void die(const char* format, ...);

class Vm {
 public:
  // `ram` is mapped shared and stays so. Writes the page tables into it (which may fault).
  Vm(std::byte* ram, size_t bytes, bool irqchip);
  int fd() const { return fd_; }
  int kvm() const { return kvm_; }
  bool irqchip() const { return irqchip_; }

 private:
  int kvm_;
  int fd_;
  bool irqchip_;
};

class Vcpu {
 public:
  // Begins at `entry` with `argument` in rdi.
  Vcpu(const Vm& vm, uint32_t number, uint64_t entry, uint64_t stack, uint64_t argument);
  uint64_t tsc_khz() const { return tsc_khz_; }
  // Runs; calls on_out(port) at each `out`. Returns when on_out returns false.
  void run(const std::function<bool(uint16_t port)>& on_out);

 private:
  void set_registers(uint64_t entry, uint64_t stack, uint64_t argument) const;

  int fd_;
  kvm_run* run_;
  uint64_t tsc_khz_;
};

}  // namespace ballast::microvm
