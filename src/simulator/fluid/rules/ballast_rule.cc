#include "simulator/fluid/rules/ballast_rule.h"

#include <algorithm>

namespace ballast::simulator::fluid {

namespace {

using engine::BalloonCondition;
using engine::HostState;

// As the engine's host.
constexpr uint64_t kReserveBytesPerVm = 64 * 1024;
constexpr Nanoseconds kTickCalm = kSecond;
constexpr Nanoseconds kTickBusy = 250 * kMillisecond;
constexpr double kStatsCalm = 10;
constexpr double kStatsBusy = 2;
constexpr uint64_t kActivePartMin = 50;

bool in_motion(const engine::VmDecision& decision) {
  const BalloonCondition condition = decision.balloon.condition;
  return condition == BalloonCondition::kInflating || condition == BalloonCondition::kDeflating ||
         condition == BalloonCondition::kSpared;
}

}  // namespace

void BallastRule::act(const HostSeen& host, std::span<const VmSeen> vms, std::span<Order> orders) {
  set_levels(host, vms.size());
  state_ = engine::next_state(state_, host.free_bytes, thresholds_);
  // The daemon's main thread looks when its time has come, when a VM arrives, and when the state
  // changes; the pagers see the state at once.
  if (vms.size() != decisions_.size() || tick_is_due(host.now)) tick(host, vms);
  for (size_t i = 0; i < vms.size(); ++i) orders[i] = order(vms[i], decisions_[i]);
}

void BallastRule::set_levels(const HostSeen& host, size_t vms) {
  thresholds_ = engine::make_thresholds(options_.thresholds, host.memory_bytes,
                                        options_.min_free_percent, vms * kReserveBytesPerVm);
  const uint64_t clear = thresholds_.enter_of(HostState::kClear);
  stop_level_ = clear > thresholds_.enter_of(HostState::kSoft)
                    ? clear
                    : thresholds_.enter_of(HostState::kHigh);
  divided_ = host.memory_bytes - std::min(host.memory_bytes, stop_level_);
}

bool BallastRule::tick_is_due(Nanoseconds now) const {
  const bool busy = std::ranges::any_of(decisions_, in_motion) || state_ >= HostState::kSoft ||
                    planner_.expects_shortage();
  return state_ != ticked_in_ || now - ticked_at_ >= (busy ? kTickBusy : kTickCalm);
}

void BallastRule::tick(const HostSeen& host, std::span<const VmSeen> vms) {
  ticked_at_ = host.now;
  ticked_in_ = state_;
  std::vector<engine::VmSituation> situations;
  for (const VmSeen& vm : vms) {
    situations.push_back({.name = vm.name,
                          .configured_bytes = vm.configured_bytes,
                          .allocation = vm.allocation,
                          .overhead_bytes = vm.overhead_bytes,
                          .consumed_bytes = vm.consumed_bytes,
                          .resident_bytes = vm.resident_bytes,
                          .paged_bytes = vm.paged_bytes,
                          .held_bytes = vm.resident_bytes + vm.paged_bytes,
                          .active_bytes = vm.active_bytes,
                          .balloon = vm.balloon});
  }
  const auto decisions = planner_.plan({.divided_bytes = divided_,
                                        .free_bytes = host.free_bytes,
                                        .state = state_,
                                        .thresholds = thresholds_,
                                        .now = host.now},
                                       situations);
  decisions_.assign(decisions.begin(), decisions.end());
}

Order BallastRule::order(const VmSeen& vm, const engine::VmDecision& decision) const {
  const uint64_t target = decision.target.target_bytes;
  Order order;
  order.balloon_bytes = decision.balloon.request_bytes;
  const bool busy =
      state_ >= HostState::kSoft || planner_.expects_shortage() || decision.balloon.size_bytes > 0;
  order.stats_period = busy ? kStatsBusy : kStatsCalm;
  order.target_bytes = target;
  if (state_ == HostState::kSoft) order.floor_bytes = decision.soft_floor_bytes;
  if (state_ >= HostState::kHard) order.floor_bytes = target;
  order.limit_floor_bytes = decision.limit_floor_bytes;
  if (state_ == HostState::kLow) order.block_above_bytes = target;
  order.bring_back = options_.bring_back && state_ <= HostState::kClear &&
                     vm.active_bytes > vm.configured_bytes / kActivePartMin;
  return order;
}

}  // namespace ballast::simulator::fluid
