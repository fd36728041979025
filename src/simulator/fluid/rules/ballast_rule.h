// BallastRule: the policy of the engine (engine/policy), called as the engine's host calls it, and
// its decisions handed on as the engine's pagers take them (engine/host.cc, engine/reclaim). A
// header, so that tests can look at what it decided.
#pragma once

#include <vector>

#include "engine/policy/planner.h"
#include "simulator/fluid/rule.h"

namespace ballast::simulator::fluid {

class BallastRule : public Rule {
 public:
  explicit BallastRule(const Options& options) : options_(options), planner_(options_) {}

  Pager pager() const override { return Pager::kOwn; }
  uint64_t paging_stops_at() const override { return stop_level_; }
  void act(const HostSeen& host, std::span<const VmSeen> vms, std::span<Order> orders) override;

  // Of the last step; the decisions of the last tick.
  engine::HostState state() const { return state_; }
  const engine::Thresholds& thresholds() const { return thresholds_; }
  uint64_t divided_bytes() const { return divided_; }
  std::span<const engine::VmDecision> decisions() const { return decisions_; }
  const engine::Planner& planner() const { return planner_; }

 private:
  void set_levels(const HostSeen& host, size_t vms);
  bool tick_is_due(Nanoseconds now) const;
  void tick(const HostSeen& host, std::span<const VmSeen> vms);
  Order order(const VmSeen& vm, const engine::VmDecision& decision) const;

  const Options options_;
  engine::Planner planner_;
  engine::HostState state_ = engine::HostState::kHigh;
  engine::HostState ticked_in_ = engine::HostState::kHigh;
  engine::Thresholds thresholds_;
  uint64_t stop_level_ = 0;
  uint64_t divided_ = 0;
  Nanoseconds ticked_at_ = 0;
  std::vector<engine::VmDecision> decisions_;
};

}  // namespace ballast::simulator::fluid
