// Simulation: one run: the real engine on the simulated machine, judged.
//
// One loop plays all workers, all guests and the operator in an order that the seed decides.
// Judges, each on its own: the oracle inside each Guest (wrong data), memory counted at every step
// (over budget), Pager::audit(), Groups::audit(), the ledger after every departure, and at the end
// progress:
// misbehaviour stops and every vCPU must run again.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "engine/host.h"
#include "engine/pager.h"
#include "machine/sim/sim_vm_store.h"
#include "simulator/groups.h"
#include "simulator/guest.h"
#include "simulator/scenario.h"

namespace ballast::simulator {

// One VM: the parts that outlive the daemon, and the daemon's pager while there is one.
struct SimVm {
  SimVm(machine::sim::SimWorld& world, uint32_t index, const VmPlan& vm_plan, uint64_t seed,
        Groups& groups);

  machine::sim::SimWorld& world;
  const uint32_t id;
  const VmPlan plan;
  const VmSpec spec;
  machine::sim::SimGuestMemory memory;
  machine::sim::SimSwapDevice swap;
  machine::sim::SimVmStore store;
  machine::sim::SimVmControl control;
  Guest guest;
  machine::sim::SimBalloon balloon;
  Groups::Membership share;  // with the daemon that there is
  std::unique_ptr<engine::Pager> pager;
  Allocation allocation;  // as it is now; the daemon keeps it over restarts

  bool running() const { return !memory.dead() && !control.frozen(); }
};

struct Summary {
  uint64_t accesses = 0;
  uint64_t verified_pages = 0;
  uint64_t daemon_deaths = 0;
  uint64_t daemon_restarts = 0;  // orderly ones
  uint64_t vm_deaths = 0;
  uint64_t refused_vms = 0;
  uint64_t frozen_vms = 0;
  uint64_t zips = 0;
  uint64_t swap_outs = 0;
  uint64_t swap_ins = 0;
  uint64_t ballooned_pages = 0;
  uint64_t share_joins = 0;
  uint64_t share_breaks = 0;
  uint64_t trace_hash = 0;
};

class Simulation {
 public:
  explicit Simulation(Scenario scenario);
  ~Simulation();

  machine::sim::SimWorld& world() { return world_; }
  // The whole run. Returns only if all judges are content; else fail() ends the process.
  Summary run();

  // Pieces of a run, for the demo.
  void start();
  // One round: a burst of a guest, some worker steps, time. True if something moved.
  bool round();
  void kill_daemon();  // now, as by kill -9
  const std::vector<std::unique_ptr<SimVm>>& vms() const { return vms_; }
  const engine::Host& host() const { return *host_; }

 private:
  void begin_daemon();
  void bury_daemon();
  void stop_daemon();
  bool take_over(SimVm& vm);
  engine::PagerParts meet(SimVm& vm, uint64_t seed);
  void part_from(SimVm& vm);
  template <typename Work>
  void guarded(const Work& work);

  void disturb_balloon(SimVm& vm);
  void arrivals();
  bool admit(uint32_t index);
  void deaths();
  void remove(size_t at);
  bool guest_burst();
  bool worker_step(SimVm& vm);
  void at_point();
  void let_guests_run(uint32_t steps);
  SimVm* some_vm();

  void check_memory(bool exact_stores);
  void check_ledger() const;
  void check_groups() const;
  void check_frozen(const SimVm& vm) const;
  void demand_progress();
  bool all_progressed(const std::vector<std::vector<uint64_t>>& goals) const;
  void collect(const Guest& guest);
  void collect(const engine::Pager& pager);

  const Scenario scenario_;
  machine::sim::SimWorld world_;
  Random random_;
  Groups groups_;  // its pools outlive the VMs
  std::vector<std::unique_ptr<SimVm>> vms_;
  std::vector<bool> arrived_;
  std::unique_ptr<engine::Host> host_;
  Summary summary_;
  uint64_t departed_accesses_ = 0;

  bool in_point_ = false;
  bool kills_allowed_ = false;
  bool ledger_is_whole_ = false;  // not while VMs are being created or taken over
  uint64_t points_until_kill_ = 0;
  uint32_t points_until_guest_ = 1;
  uint32_t rounds_ = 0;
  uint32_t idle_rounds_ = 0;
  Nanoseconds next_balance_ = 0;
  uint64_t growths_ = 0;
  uint64_t store_bytes_ = 0;  // as of the last exact count
};

}  // namespace ballast::simulator
