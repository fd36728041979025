// BallastRule: the policy of the engine (engine/policy), with what the pager makes of its
// decisions. A header, so that tests can look at what it decided.
#pragma once

#include <vector>

#include "engine/policy/planner.h"
#include "simulator/fluid/rule.h"

namespace ballast::simulator::fluid {

class BallastRule : public Rule {
 public:
  explicit BallastRule(const Options& options) : options_(options), planner_(options_) {}

  Pager pager() const override { return Pager::kOwn; }
  void act(const HostSeen& host, std::span<const VmSeen> vms, std::span<Order> orders) override;

  // Of the last step.
  engine::HostState state() const { return state_; }
  const engine::Thresholds& thresholds() const { return thresholds_; }
  uint64_t divided_bytes() const { return divided_; }
  std::span<const engine::VmDecision> decisions() const { return decisions_; }
  const engine::Planner& planner() const { return planner_; }

 private:
  Order order(const VmSeen& vm, const engine::VmDecision& decision) const;

  const Options options_;
  engine::Planner planner_;
  engine::HostState state_ = engine::HostState::kHigh;
  engine::Thresholds thresholds_;
  uint64_t divided_ = 0;
  std::span<const engine::VmDecision> decisions_;
};

}  // namespace ballast::simulator::fluid
