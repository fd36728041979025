// DecisionLog: turns what the policy does, tick after tick, into the few lines that an operator
// wants to find afterwards: the host's state, a VM's target, its balloon's fate, paging. One
// thread.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "engine/policy/planner.h"
#include "machine/vm_control.h"
#include "model/report.h"

namespace ballast::engine {

// `vm` is empty for events of the host.
using EventSink =
    std::function<void(machine::Severity, std::string vm, std::string kind, std::string message)>;

class DecisionLog {
 public:
  explicit DecisionLog(EventSink sink) : sink_(std::move(sink)) {}

  // Every tick. A worse state is told at once, a better one when it has lasted.
  void state(HostState state, uint64_t free_bytes, const Thresholds& thresholds, Nanoseconds now);
  void vm(const VmReport& report, const VmDecision& decision, Nanoseconds now);
  void forget(const std::string& vm) { vms_.erase(vm); }

 private:
  struct Told {
    uint64_t target_bytes = 0;
    Nanoseconds target_at = 0;
    BalloonCondition condition = BalloonCondition::kNone;  // told last
    BalloonCondition seen = BalloonCondition::kNone;
    Nanoseconds seen_since = 0;
    bool ballooning = false;
    // A paging episode: it ends after a while without paging.
    Nanoseconds paging_since = 0;
    Nanoseconds paged_at = 0;
    uint64_t zips_before = 0, swap_outs_before = 0;
    uint64_t zips = 0, swap_outs = 0;
    bool blocked = false;
    bool known = false;
  };
  void target(const VmReport& report, Told& told, Nanoseconds now);
  void balloon(const VmReport& report, const VmDecision& decision, Told& told, Nanoseconds now);
  void paging(const VmReport& report, Told& told, Nanoseconds now);

  const EventSink sink_;
  HostState told_state_ = HostState::kHigh;
  HostState state_ = HostState::kHigh;  // as of the last tick
  Nanoseconds state_since_ = 0;
  std::map<std::string, Told> vms_;
};

}  // namespace ballast::engine
