#include "engine/policy/targets.h"

#include <algorithm>

namespace ballast::engine {

std::vector<uint64_t> targets(uint64_t memory_bytes, std::span<const Demand> vms) {
  std::vector<uint64_t> result(vms.size(), 0);
  uint64_t rest = memory_bytes;
  uint64_t weight = 0;
  for (size_t i = 0; i < vms.size(); ++i) {
    result[i] = vms[i].min_bytes;
    rest -= std::min(rest, vms[i].min_bytes);
    weight += vms[i].configured_bytes;
  }
  std::vector<bool> settled(vms.size(), false);
  // Each round settles the VMs that want no more than their part; at most one round per VM.
  for (bool changed = true; changed && weight > 0;) {
    changed = false;
    const uint64_t round_rest = rest;
    const uint64_t round_weight = weight;
    for (size_t i = 0; i < vms.size(); ++i) {
      if (settled[i]) continue;
      const auto part = static_cast<uint64_t>(static_cast<long double>(round_rest) *
                                              static_cast<long double>(vms[i].configured_bytes) /
                                              static_cast<long double>(round_weight));
      const uint64_t above_min =
          std::max(vms[i].consumed_bytes, vms[i].min_bytes) - vms[i].min_bytes;
      if (above_min > part) continue;
      settled[i] = changed = true;
      result[i] = vms[i].min_bytes + above_min;
      rest -= above_min;
      weight -= vms[i].configured_bytes;
    }
  }
  for (size_t i = 0; i < vms.size(); ++i) {
    if (settled[i]) continue;
    const auto part = static_cast<uint64_t>(static_cast<long double>(rest) *
                                            static_cast<long double>(vms[i].configured_bytes) /
                                            static_cast<long double>(weight));
    result[i] = std::min(vms[i].configured_bytes, vms[i].min_bytes + part);
  }
  return result;
}

const char* budget_state(uint64_t free_bytes, uint64_t min_free) {
  if (free_bytes >= min_free * 4) return "high";
  if (free_bytes >= min_free) return "clear";
  if (free_bytes >= min_free / 100 * 64) return "soft";
  if (free_bytes >= min_free / 100 * 32) return "hard";
  return "low";
}

}  // namespace ballast::engine
