// Measures: what a rule did to the VMs of one run, in numbers.
//
//   step        seconds from a step of the recorded demand until 95 % of what the VM touches all
//               the time is there (or, at boot, zeroed); the worst of the run's steps
//   stall       seconds that guests spent waiting: for the host (a frame, a page-in), or on their
//               own swap because the balloon left them too little; summed over VMs. A guest counts
//               as one busy thread that stops at what is missing
//   overshoot   memory that lies free beyond the host's minFree while VMs lack what they would use
//               (wanted memory or page cache that was taken away): taken for nothing. GB·s, and its
//               peak
//   unfairness  while VMs contend: the mean over VMs that are active (half of what they use and
//               more) of |share held − fair| / fair. Divided is what the active VMs hold together,
//               by shares without tax (engine/policy/shares.h), none above what it wants. Each
//               second counts once; waiting for the first division included
//   mean free   what the rule leaves unused: the price of being prepared
//   paged       bytes moved out and in by the host's pager or kernel, and by guests' own swaps
//   below min   minutes of VMs that waited for the host while they consumed less than their min (or
//               what they want, if that is less) and overhead
#pragma once

#include <vector>

#include "simulator/fluid/world.h"

namespace ballast::simulator::fluid {

struct Figures {
  double worst_step = 0;  // seconds
  size_t steps = 0;
  size_t steps_missed = 0;  // never satisfied in the run
  double host_stall = 0;    // seconds
  double guest_stall = 0;
  double overshoot = 0;  // GB·s
  Bytes overshoot_peak = 0;
  double unfairness = 0;  // 0 … : 0.1 is 10 % off
  double contended = 0;   // seconds
  Bytes compressed = 0;
  Bytes swapped_out = 0;
  Bytes paged_in = 0;
  Bytes guest_swapped = 0;  // out
  Bytes mean_free = 0;
  Bytes lowest_free = 0;
  double below_min = 0;  // minutes
  double blocked = 0;    // seconds of VMs that wanted memory
};

class Measures {
 public:
  explicit Measures(const World& world);
  // After each step of the world.
  void observe();
  Figures figures() const;

 private:
  void observe_steps();
  void observe_overshoot();
  void observe_fairness();

  const World& world_;
  Figures figures_;
  std::vector<double> step_times_;  // of plan.steps; negative: not satisfied yet
  double free_sum_ = 0;
  double unfair_sum_ = 0;
  double next_fairness_ = 0;
};

}  // namespace ballast::simulator::fluid
