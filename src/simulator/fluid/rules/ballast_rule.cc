#include "simulator/fluid/rules/ballast_rule.h"

#include <algorithm>

namespace ballast::simulator::fluid {

namespace {

using engine::HostState;

constexpr uint64_t kReserveBytesPerVm = 64 * 1024;  // as the engine's host

}  // namespace

void BallastRule::act(const HostSeen& host, std::span<const VmSeen> vms, std::span<Order> orders) {
  thresholds_ = engine::make_thresholds(options_.thresholds, host.memory_bytes,
                                        options_.min_free_percent, vms.size() * kReserveBytesPerVm);
  state_ = engine::next_state(state_, host.free_bytes, thresholds_);
  // The targets leave free what ends the shortage.
  divided_ =
      host.memory_bytes - std::min(host.memory_bytes, thresholds_.enter_of(HostState::kClear));
  std::vector<engine::VmSituation> situations;
  for (const VmSeen& vm : vms) {
    situations.push_back({.name = vm.name,
                          .configured_bytes = vm.configured_bytes,
                          .allocation = vm.allocation,
                          .overhead_bytes = vm.overhead_bytes,
                          .consumed_bytes = vm.consumed_bytes,
                          .resident_bytes = vm.resident_bytes,
                          .paged_bytes = vm.paged_bytes,
                          .active_bytes = vm.active_bytes,
                          .balloon = vm.balloon});
  }
  decisions_ = planner_.plan({.divided_bytes = divided_,
                              .free_bytes = host.free_bytes,
                              .state = state_,
                              .thresholds = thresholds_,
                              .now = host.now},
                             situations);
  for (size_t i = 0; i < vms.size(); ++i) orders[i] = order(vms[i], decisions_[i]);
}

Order BallastRule::order(const VmSeen& vm, const engine::VmDecision& decision) const {
  const uint64_t target = decision.target.target_bytes;
  Order order;
  order.balloon_bytes = decision.balloon.request_bytes;
  order.target_bytes = target;
  order.page_down_to_bytes = decision.limit_floor_bytes;
  if (state_ == HostState::kSoft) {
    order.page_down_to_bytes = std::min(order.page_down_to_bytes, decision.soft_floor_bytes);
  } else if (state_ > HostState::kSoft) {
    order.page_down_to_bytes = std::min(order.page_down_to_bytes, target);
  }
  order.blocked = state_ == HostState::kLow && vm.consumed_bytes > target;
  order.bring_back = options_.bring_back && state_ == HostState::kHigh;
  return order;
}

}  // namespace ballast::simulator::fluid
