// What paging is to make of a VM's swapped memory, as esxtop's SWTGT tells it: more than is swapped
// now while pages are to leave, less while they are brought back. Pure.
//
// An upper bound on the way out: what is to leave is shared, dropped as zero or compressed first,
// and only the rest reaches the swap file.
#pragma once

#include <cstdint>

#include "engine/policy/host_state.h"

namespace ballast::engine {

struct PagingSituation {
  HostState state = HostState::kHigh;
  uint64_t consumed_bytes = 0;
  uint64_t swapped_bytes = 0;
  uint64_t swap_bytes = 0;  // what the swap file can hold
  // As in VmDecision and Orders.
  uint64_t target_bytes = 0;
  uint64_t soft_floor_bytes = ~uint64_t{0};
  uint64_t limit_floor_bytes = ~uint64_t{0};
  bool brings_back = false;
};

uint64_t swap_target_bytes(const PagingSituation& vm);

}  // namespace ballast::engine
