// What one run of the fluid simulator is made of: a host, its VMs, what their guests will want, and
// how their balloon drivers behave. Plain data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/allocation.h"
#include "model/options.h"
#include "simulator/fluid/demand.h"

namespace ballast::simulator::fluid {

inline constexpr double kNever = 1e9;  // seconds

struct DriverPlan {
  enum class Kind : uint8_t {
    kGood,
    kNone,  // the VM has no balloon device
    kSlow,  // a tenth of the usual rates
    kLiar,  // says that it did what it was asked, and keeps the memory
  };
  Kind kind = Kind::kGood;
  double shows_after = 0;     // seconds after the VM's boot until the driver is there
  Bytes stuck_at = 1e18;      // never grows beyond this
  double deaf_from = kNever;  // ignores what it is asked, from and until (seconds of the run)
  double deaf_until = kNever;
};

struct VmPlan {
  std::string name;
  Bytes configured = 0;
  Bytes overhead = 8 * kMb;
  Allocation allocation;
  Demand demand;              // its time is the run's
  double boots_at = 0;        // seconds of the run: the VM does not exist before
  Bytes boot_zeroes = 0;      // memory that the guest writes zeros to while it boots
  Bytes touched = 0;          // memory beyond its use that it once used and freed before the run
  Bytes guest_swap = 0;       // its own swap, on its own disk
  bool reports_free = false;  // free-page reporting: what it frees is given back by itself
  DriverPlan driver;
};

// A moment at which a VM wants more at once; measured is how long it takes until it has it.
struct Step {
  size_t vm = 0;
  double at = 0;
};

struct HostPlan {
  std::string name;
  std::string story;  // one line
  Bytes memory = 0;   // for VMs; never exceeded
  double seconds = 600;
  double compressible = 0.5;  // part of paged-out memory that goes to half its size or less
  Options options;            // Ballast's
  std::vector<VmPlan> vms;
  std::vector<Step> steps;
  uint64_t seed = 1;
};

}  // namespace ballast::simulator::fluid
