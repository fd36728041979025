// Targets: who should have how much. Pure arithmetic: numbers in, numbers out; no clock, no state.
//
// Every VM is entitled to its min, and to a part of the rest in proportion to its configured size.
// A VM that consumes less than its part leaves the difference to the others, in proportion again
// (water-filling), so memory that nobody wants is never taken from somebody who does. min ≤ target
// ≤ configured. The sum of targets is at most the memory there is, unless the mins alone exceed it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/policy/host_state.h"

namespace ballast::engine {

struct Demand {
  uint64_t configured_bytes = 0;
  uint64_t min_bytes = 0;
  uint64_t consumed_bytes = 0;  // what it holds now
};

std::vector<uint64_t> targets(uint64_t memory_bytes, std::span<const Demand> vms);

// The name of the state of the budget at this much free memory: high, clear, soft, hard, low (ESXi
// 6 thresholds: 400 %, 100 %, 64 %, 32 %, 16 % of minFree).
const char* budget_state(uint64_t free_bytes, uint64_t min_free_bytes);

}  // namespace ballast::engine
