// Scenarios: hosts and recordings of demand. The same name and seed give the same recording, which
// every rule is then shown.
#pragma once

#include <span>
#include <string_view>

#include "simulator/fluid/plan.h"

namespace ballast::simulator::fluid {

struct ScenarioInfo {
  std::string_view name;
  HostPlan (*make)(uint64_t seed);
};
std::span<const ScenarioInfo> all_scenarios();

// 2 … 12 VMs of any size on any host, steps, ramps, bursts, boot storms, mins, limits, balloons of
// all kinds. Fits admission: the mins and overheads and minFree fit the memory.
HostPlan random_host(uint64_t seed);

}  // namespace ballast::simulator::fluid
