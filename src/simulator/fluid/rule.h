// Rule: who decides how much memory each VM of a host has. Ballast's policy is one; the others
// follow what is published about programs that people use today. What one is shown is what the
// real one could find out on a Linux host; each uses the part that the real one looks at.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/units.h"
#include "machine/balloon.h"
#include "model/allocation.h"
#include "model/options.h"

namespace ballast::simulator::fluid {

struct VmSeen {
  std::string name;
  uint64_t configured_bytes = 0;
  Allocation allocation;
  uint64_t overhead_bytes = 0;
  uint64_t consumed_bytes = 0;  // of the host's memory, overhead included
  uint64_t resident_bytes = 0;
  uint64_t paged_bytes = 0;
  uint64_t active_bytes = 0;  // as Ballast samples it; everything until the first estimate
  double stall = 0;           // part of the last step that its vCPUs waited for host memory (PSI)
  machine::BalloonView balloon;
};

struct HostSeen {
  Nanoseconds now = 0;
  uint64_t memory_bytes = 0;
  uint64_t free_bytes = 0;
};

// What is to be done about one VM; stands until it is changed.
struct Order {
  std::optional<uint64_t> balloon_bytes;  // size to ask its balloon for
  double stats_period = 2;                // seconds between two reports of its driver
  // For the kernel.
  uint64_t reclaim_bytes = 0;  // to be paged out once (memory.reclaim)
  // For Ballast's pager. Bytes of consumption.
  uint64_t target_bytes = ~uint64_t{0};
  uint64_t floor_bytes = ~uint64_t{0};        // paged down to this while the host lacks memory
  uint64_t limit_floor_bytes = ~uint64_t{0};  // paged down to this in any case
  uint64_t block_above_bytes = ~uint64_t{0};  // gets no frame while it consumes more
  bool bring_back = false;                    // what is swapped out may come back by itself
};

class Rule {
 public:
  // Who pages: Ballast's own pager, one per VM, compressing first, never below a VM's min; or the
  // host's kernel, which takes the coldest memory of all VMs alike when free memory runs out.
  enum class Pager : uint8_t { kOwn, kKernel };

  virtual ~Rule() = default;
  virtual Pager pager() const { return Pager::kKernel; }
  // Ballast's pagers take no more for the host's sake once so much is free.
  virtual uint64_t paging_stops_at() const { return 0; }
  // One step. `orders` belong to `vms`, in order; VMs are only ever added, at the end.
  virtual void act(const HostSeen& host, std::span<const VmSeen> vms, std::span<Order> orders) = 0;
};

struct RuleInfo {
  std::string_view name;
  std::string_view origin;  // whose rule it is
  std::unique_ptr<Rule> (*make)(const Options& options);
};
std::span<const RuleInfo> all_rules();

}  // namespace ballast::simulator::fluid
