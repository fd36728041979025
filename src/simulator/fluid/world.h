// World: one host, its VMs and a rule, in steps of 100 ms. Memory is a hard budget: who needs some
// when none is free waits, and the wait is counted; nobody is killed.
//
// In each step: demands move, the rule acts, balloon drivers work, pagers work, guests live.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "simulator/fluid/balloon_driver.h"
#include "simulator/fluid/guest.h"
#include "simulator/fluid/plan.h"
#include "simulator/fluid/rule.h"

namespace ballast::simulator::fluid {

inline constexpr double kStep = 0.1;  // seconds

struct Vm {
  explicit Vm(const VmPlan& vm_plan) : plan(vm_plan), guest(vm_plan), driver(vm_plan) {}

  Bytes arena() const;  // what its compression cache costs
  Bytes consumed() const { return guest.resident().total() + arena() + plan.overhead; }
  // What its min guarantees, overhead included.
  Bytes guaranteed() const { return to_bytes(plan.allocation.min_bytes) + plan.overhead; }
  // How far it is above what it may be paged down to; never below its min.
  Bytes above(uint64_t floor_bytes) const;
  double swapped_part() const;  // of what is paged out

  const VmPlan& plan;
  Guest guest;
  BalloonDriver driver;
  Order order;
  double booted_at = 0;
  Bytes zipped = 0;  // paged out into the compression cache, uncompressed
  Bytes swapped = 0;
  Bytes active_estimate = 0;
  // Of the last step.
  Lived lived;
  bool blocked = false;   // wanted frames, and was above what it may have now
  Bytes waits_for = 0;    // frames that it wanted and did not get
  Bytes zipped_out = 0;   // into the compression cache
  Bytes swapped_out = 0;  // written to the host's swap
  double guest_disk = 0;  // seconds that making room inside needed
};

class World {
 public:
  // Both must outlive the world.
  World(const HostPlan& plan, Rule& rule);

  // False when the recording is over.
  bool step();

  const HostPlan& plan() const { return plan_; }
  double now() const { return now_; }  // seconds, of the end of the last step
  Bytes free() const;
  // Those that have booted, in the order of their boots.
  std::span<const std::unique_ptr<Vm>> vms() const { return vms_; }
  // Null while it has not booted.
  const Vm* find(const VmPlan& plan) const;

 private:
  struct Wish;
  Bytes kept_free() const;
  void boot();
  void ask_rule();
  void page_out();
  void page_out_own();
  void page_out_kernel();
  Bytes zip_max(const Vm& vm) const;
  Bytes most_paged(const Vm& vm, Bytes disk) const;
  void evict(Vm& vm, Bytes bytes);
  void evict_all(Bytes most, Bytes (*amount)(const Held&));
  void bring_back();
  void live();
  std::vector<Bytes> grant(std::span<const Wants> wants) const;
  void estimate_active(Vm& vm) const;

  const HostPlan& plan_;
  Rule& rule_;
  double now_ = 0;
  uint64_t steps_ = 0;
  Bytes disk_writes_ = 0;  // left of this step
  Bytes disk_reads_ = 0;
  bool kswapd_ = false;
  std::vector<std::unique_ptr<Vm>> vms_;
  std::vector<bool> booted_;
};

}  // namespace ballast::simulator::fluid
