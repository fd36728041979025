// What-if: a question about a host that is not there yet (more VMs, other allocations), and what
// its targets would be. Plain data; engine/policy answers it with the code that computes targets.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "model/allocation.h"
#include "model/vm_spec.h"

namespace ballast {

struct WhatIfQuestion {
  // VMs that would start. They are taken to use all their memory, actively: the worst case.
  std::vector<VmSpec> add;
  std::vector<std::pair<std::string, AllocationChange>> set;  // running VMs, by name
};

struct WhatIfRow {
  std::string name;
  uint64_t configured_bytes = 0;
  uint64_t min_bytes = 0;  // the allocation as it would be
  uint64_t limit_bytes = kNoLimit;
  uint64_t shares = 0;
  bool is_new = false;
  uint64_t target_now_bytes = 0;  // 0 for a new one
  uint64_t target_then_bytes = 0;
  uint64_t want_bytes = 0;  // what it would consume if it were alone
  std::string bound_now;    // as VmReport::bound; empty for a new one
  std::string bound_then;
};

struct WhatIfAnswer {
  std::vector<WhatIfRow> rows;  // running VMs, then the new ones
  std::string refusal;  // why a new VM or a higher min would be refused; empty: it would not
  uint64_t divided_now_bytes = 0;  // what the targets divide among the VMs
  uint64_t divided_then_bytes = 0;
};

}  // namespace ballast
