// Planner: ESX's memory policy for one host: targets for all VMs, and by which means each gets
// there. Numbers and the time in, decisions out; no I/O, no thread, no clock of its own, so the
// daemon, the simulator, `why` and what-if run the very same code.
//
//   solve()   pure: the targets of any set of VMs. What-if calls it too.
//   plan()    one tick: targets when they are due, balloons always.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "engine/policy/balloon_pilot.h"
#include "engine/policy/host_state.h"
#include "engine/policy/shares.h"
#include "model/allocation.h"
#include "model/options.h"

namespace ballast::engine {

// One VM as the policy sees it.
struct VmSituation {
  std::string name;
  uint64_t configured_bytes = 0;
  Allocation allocation;
  uint64_t overhead_bytes = 0;
  uint64_t consumed_bytes = 0;  // of machine memory, overhead and cache included
  uint64_t resident_bytes = 0;
  uint64_t paged_bytes = 0;   // guest memory that is compressed or swapped
  uint64_t held_bytes = 0;    // guest memory that holds something: that, and zeros and shared pages
  uint64_t active_bytes = 0;  // of guest memory; everything it has while there is no estimate
  machine::BalloonView balloon;
  bool balloon_is_foreign = false;  // as of the last plan
};

// What decides a target.
enum class Bound : uint8_t {
  kShares,  // its part by shares and tax
  kMin,     // its min holds it up
  kWant,    // it has no use for more
  kLimit,   // its limit
  kMax,     // its configured size
};
std::string_view name_of(Bound bound);

struct VmTarget {
  uint64_t target_bytes = 0;  // of consumption, overhead included
  uint64_t want_bytes = 0;    // in use (resident or paged) and some room to grow, overhead included
  uint64_t shares = 0;
  Bound bound = Bound::kShares;
};

struct VmDecision {
  VmTarget target;
  BalloonPlan balloon;
  uint64_t balloon_max_bytes = 0;
  // For paging, see Orders (engine/vm.h).
  uint64_t soft_floor_bytes = ~uint64_t{0};
  uint64_t limit_floor_bytes = ~uint64_t{0};
};

struct HostSituation {
  uint64_t divided_bytes = 0;  // what the targets may sum up to
  uint64_t free_bytes = 0;
  HostState state = HostState::kHigh;
  Thresholds thresholds;
  Nanoseconds now = 0;
};

// The room to grow that a VM is given beyond what it uses, so that it need not be looked at all the
// time: an eighth, between 4 MB and 256 MB.
uint64_t headroom_bytes(uint64_t used_bytes);

std::vector<VmTarget> solve(uint64_t divided_bytes, std::span<const VmSituation> vms,
                            const Options& options);

class Planner {
 public:
  // Options may change at any time.
  explicit Planner(const Options& options) : options_(options) {}

  // Targets are computed anew when they are due (Mem.BalancePeriod), when the state changed, while
  // the host is short, while a balloon keeps memory from a VM, when the set of VMs or an allocation
  // changed, or after due().
  // Returns one decision per VM, in order; valid until the next call.
  std::span<const VmDecision> plan(const HostSituation& host, std::span<const VmSituation> vms);
  void due() { solved_at_ = 0; }
  // Free memory is expected to cross the soft line before balloons could have delivered.
  bool expects_shortage() const { return expects_shortage_; }
  // Bytes per second, negative while memory is being consumed; smoothed.
  double slope() const { return slope_; }

 private:
  struct Known {
    BalloonPilot pilot;
    Allocation allocation;
    Nanoseconds above_limit_since = 0;
  };
  void forecast(const HostSituation& host);
  bool is_due(const HostSituation& host, std::span<const VmSituation> vms);
  void decide(const HostSituation& host, const VmSituation& vm, Known& known,
              VmDecision& decision) const;

  const Options& options_;
  std::map<std::string, Known> known_;
  std::vector<VmDecision> decisions_;
  Nanoseconds solved_at_ = 0;
  HostState solved_in_ = HostState::kHigh;
  bool expects_shortage_ = false;
  double slope_ = 0;
  uint64_t last_free_ = 0;
  Nanoseconds last_at_ = 0;
};

}  // namespace ballast::engine
