// Whether KVM on this machine can run a guest kernel at a useful speed. /dev/kvm opening says
// little: a shadow-paging KVM inside a container or micro-VM may interpret kernel-mode code
// instruction by instruction, and a guest never boots.
#pragma once

#include <string>

namespace ballast::qemu {

struct KvmProbe {
  bool usable = false;
  std::string reason;  // why not, for people
};

// Runs a few million kernel-mode instructions of a tiny 64-bit guest and watches the CPU time they
// take: native needs a few ms, interpretation seconds. Uses at most 0.3 s of CPU. Takes SIGUSR1
// over while it runs, so only before the program has other threads that use it.
KvmProbe probe_kvm();

}  // namespace ballast::qemu
