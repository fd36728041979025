// VmSpec: what one VM was promised when it started. Plain data.
#pragma once

#include <cstdint>
#include <string>

#include "model/allocation.h"

namespace ballast {

struct VmSpec {
  std::string name;  // unique on the host; [A-Za-z0-9._-]{1,64}
  std::string uuid;
  uint64_t configured_bytes = 0;  // what the guest sees as its RAM (ESX: max)
  Allocation allocation;          // in a report: as it is now
  bool share_enable = true;       // sched.mem.pshare.enable
  std::string salt;               // sched.mem.pshare.salt; empty: none of its own
  // The salt group whose pages it may share, by share_group(); empty: it shares nothing. Fixed when
  // the VM is powered on.
  std::string share_group;
};

// The swap file holds what may have to leave memory: configured − min, as of the VM's start.
constexpr uint64_t swap_bytes(const VmSpec& spec) {
  return spec.configured_bytes - spec.allocation.min_bytes;
}

}  // namespace ballast
