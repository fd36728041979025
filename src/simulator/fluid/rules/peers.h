// Rules of other programs, after their published behaviour. None of them has a pager: the host's
// kernel swap plays that part for all of them. Each balloons a VM no further than Ballast would
// (balloon_floor), as an administrator of either would set it up.
#pragma once

#include <algorithm>
#include <map>

#include "simulator/fluid/rule.h"

namespace ballast::simulator::fluid {

// Memory that a rule leaves to a VM at least: its min, or what Mem.CtlMaxPercent leaves.
inline uint64_t balloon_floor(const VmSeen& vm) {
  return std::max(vm.allocation.min_bytes, vm.configured_bytes / 100 * 35);
}
// Memory that the guest has left, as the monitor says. Everything while it does not say.
inline uint64_t guest_memory(const VmSeen& vm) {
  return vm.balloon.link == machine::BalloonView::Link::kReady
             ? std::min(vm.balloon.actual_bytes, vm.configured_bytes)
             : vm.configured_bytes;
}
inline uint64_t guest_max(const VmSeen& vm) {
  return max_bytes(vm.allocation, vm.configured_bytes);
}

// No rule: the kernel's swap alone, what a plain Linux host does.
class SwapRule : public Rule {
 public:
  void act(const HostSeen&, std::span<const VmSeen>, std::span<Order>) override {}
};

// Proxmox VE, pvestatd: every 10 s, towards 80 % of the host's memory in use, at most 100 MiB per
// VM, in proportion to shares; VMs with little free memory inside grow first and shrink last.
class ProxmoxRule : public Rule {
 public:
  void act(const HostSeen& host, std::span<const VmSeen> vms, std::span<Order> orders) override;

 private:
  Nanoseconds next_ = 0;
};

// oVirt's MOM, balloon policy: every 10 s, 5 % steps. Below 20 % of host memory free each guest is
// pressed towards what it uses and a margin that shrinks with the host's; above, all grow.
class MomRule : public Rule {
 public:
  void act(const HostSeen& host, std::span<const VmSeen> vms, std::span<Order> orders) override;

 private:
  // An average of ten samples, 5 s apart, of free host memory and of what guests use.
  void sample(const HostSeen& host, std::span<const VmSeen> vms);

  Nanoseconds next_ = 0;
  Nanoseconds next_sample_ = 0;
  std::vector<double> host_free_;
  std::map<std::string, std::vector<double>> guest_used_;
};

// xapi's squeezed: the same fraction of its range from min to max for every VM. First those who
// shrink, then, when they have, those who grow. Whose driver does not move for 5 s is left out.
class SqueezedRule : public Rule {
 public:
  void act(const HostSeen& host, std::span<const VmSeen> vms, std::span<Order> orders) override;

 private:
  struct Known {
    uint64_t goal = 0;   // memory that the guest should have; 0: none yet
    uint64_t asked = 0;  // what it was asked for
    uint64_t last = 0;   // what it had when it was last looked at
    Nanoseconds moved_at = 0;
    bool inactive = false;
  };
  void watch(Nanoseconds now, std::span<const VmSeen> vms);
  void aim(const HostSeen& host, std::span<const VmSeen> vms);
  bool takes_part(const VmSeen& vm) const;

  Nanoseconds next_ = 0;
  std::map<std::string, Known> known_;
};

// senpai (oomd): no balloon. Every 6 s one percent of a VM's memory is paged out, as long as the VM
// stalls less than 0.1 % of its time. Its governor of swap writes (1 MiB/s) is left out: it would
// keep it from doing anything in the minutes of a run.
class SenpaiRule : public Rule {
 public:
  void act(const HostSeen& host, std::span<const VmSeen> vms, std::span<Order> orders) override;

 private:
  struct Pressure {
    double avg10 = 0;
    double avg60 = 0;
  };
  Nanoseconds next_ = 0;
  Nanoseconds last_ = 0;
  std::map<std::string, Pressure> pressure_;
};

}  // namespace ballast::simulator::fluid
