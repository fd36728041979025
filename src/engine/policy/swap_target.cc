#include "engine/policy/swap_target.h"

#include <algorithm>

namespace ballast::engine {

uint64_t swap_target_bytes(const PagingSituation& vm) {
  uint64_t floor = vm.limit_floor_bytes;
  if (vm.state == HostState::kSoft) floor = std::min(floor, vm.soft_floor_bytes);
  if (vm.state >= HostState::kHard) floor = std::min(floor, vm.target_bytes);
  if (vm.consumed_bytes > floor) {
    const uint64_t most = std::max(vm.swap_bytes, vm.swapped_bytes);
    return std::min(vm.swapped_bytes + (vm.consumed_bytes - floor), most);
  }
  const bool returns = vm.brings_back && vm.state <= HostState::kClear;
  if (!returns || vm.consumed_bytes >= vm.target_bytes) return vm.swapped_bytes;
  const uint64_t room = vm.target_bytes - vm.consumed_bytes;
  return vm.swapped_bytes - std::min(vm.swapped_bytes, room);
}

}  // namespace ballast::engine
