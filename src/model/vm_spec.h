// VmSpec: what one VM was promised when it started. Plain data.
#pragma once

#include <cstdint>
#include <string>

namespace ballast {

struct VmSpec {
  std::string name;  // unique on the host; [A-Za-z0-9._-]{1,64}
  std::string uuid;
  uint64_t configured_bytes = 0;  // what the guest sees as its RAM (ESX: max)
  uint64_t min_bytes = 0;         // never reclaimed below this (ESX: reservation)
};

// The swap file holds what may have to leave memory: configured − min.
constexpr uint64_t swap_bytes(const VmSpec& spec) { return spec.configured_bytes - spec.min_bytes; }

}  // namespace ballast
