// Host: all VMs of this machine together: the ledger, who may start, and, tick after tick, who
// should have how much and by which means. One thread (the daemon's main thread, the simulator's
// loop).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/admission.h"
#include "engine/decision_log.h"
#include "engine/ledger/ledger.h"
#include "engine/pager.h"
#include "engine/policy/overcommit.h"
#include "engine/policy/planner.h"
#include "engine/policy/swap_target.h"
#include "engine/share/share_group.h"
#include "machine/balloon.h"
#include "machine/clock.h"
#include "model/options.h"
#include "model/report.h"
#include "model/what_if.h"

namespace ballast::engine {

class Host {
 public:
  // `own_bytes` is what the daemon itself costs, charged first. Refuses budgets that leave nothing
  // for VMs. `sink` gets the policy's decisions as events.
  static Result<std::unique_ptr<Host>> create(uint64_t budget_bytes, uint64_t own_bytes,
                                              Options options, const machine::Clock& clock,
                                              EventSink sink);

  Ledger& ledger() { return ledger_; }

  // Whether a new VM may start: its min and overhead, and those of all others, fit the budget. The
  // refusal shows the arithmetic.
  Status admit(const VmSpec& spec) const;
  // Memory promised ahead to a VM that will come.
  Status reserve(const VmSpec& spec, Nanoseconds span);
  Status unreserve(const std::string& name);

  struct Parts {
    Pager* pager;
    machine::Balloon* balloon = nullptr;  // none
    // Makes the swap file hold so much, when the VM's min is lowered; may refuse.
    std::function<Status(uint64_t bytes)> grow_swap{};
    ShareGroup* share = nullptr;  // the VM's salt group; none
  };
  // The parts must be removed before they die. `allocation`: as it is now, which after a take-over
  // may differ from what the VM was started with.
  void add(const Parts& parts, const Allocation& allocation);
  void remove(Pager& pager);

  // Changes a running VM's allocation, at once. Refuses what breaks a rule; nothing is changed
  // then.
  Status set(const std::string& vm, const AllocationChange& change);
  const Allocation* allocation(const std::string& vm) const;  // null: no such VM
  const Options& options() const { return options_; }
  Status set_option(std::string_view name, std::string_view value);
  WhatIfAnswer what_if(const WhatIfQuestion& question) const;
  // The speed of all CPUs together, for Mem.ShareScanGHz; 0: not known, no limit.
  void set_cpu_ghz(double ghz) { cpu_ghz_ = ghz; }

  // One look at everything: targets when they are due, balloons, orders for the pagers. Call every
  // tick_period() and when the state has changed.
  void tick();
  Nanoseconds tick_period() const;
  // True while the state or the policy ask workers to look whether they are above target.
  bool short_of_memory() const { return ledger_.free() < ledger_.stop_level(); }
  HostState state() const { return state_; }  // as of the last tick
  HostReport report() const;

 private:
  struct Member {
    Pager* pager;
    machine::Balloon* balloon;
    std::function<Status(uint64_t bytes)> grow_swap;
    ShareGroup* share;
    Allocation allocation;
    VmDecision decision;
    bool brings_back = false;  // swapped pages may return
  };

  Host(uint64_t budget_bytes, uint64_t own_bytes, const Options& options,
       const machine::Clock& clock, EventSink sink);
  void set_levels();
  uint64_t divided_bytes() const;
  Promises promises() const;
  std::vector<VmSituation> situations() const;
  // `then`: what is promised when this and all other changes are made.
  Status check_change(const Member& member, const Allocation& wanted, Promises then) const;
  void carry_out(Member& member, const VmReport& report);
  uint32_t share_rate() const;
  VmReport report_of(const Member& member) const;
  // What its pager tells, and its part of the frames that it shares.
  static VmReport own_report(const Member& member);
  PagingSituation paging_of(const Member& member, const VmReport& report) const;
  Member* find(const std::string& vm);

  Ledger ledger_;
  const uint64_t own_bytes_;
  double cpu_ghz_ = 0;
  Options options_;
  const machine::Clock& clock_;
  const Nanoseconds started_;
  Thresholds thresholds_;
  Admission admission_;
  Planner planner_;
  Overcommit overcommit_;
  DecisionLog log_;
  HostState state_ = HostState::kHigh;  // as of the last tick
  Nanoseconds state_since_;
  std::vector<Member> members_;
};

}  // namespace ballast::engine
