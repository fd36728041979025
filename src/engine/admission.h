// Admission: which VMs may be promised memory. A VM starts only if its min and its overhead fit
// what other mins, reservations and what is kept free leave of the budget. Pure arithmetic and a
// list of promises made ahead; one thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "model/report.h"
#include "model/vm_spec.h"

namespace ballast::engine {

// What is promised already, in bytes.
struct Promises {
  uint64_t budget = 0;
  uint64_t mins = 0;  // of all VMs, with their overheads
  uint64_t vms = 0;
  uint64_t kept_free = 0;  // minFree and what reclaim itself needs
};

class Admission {
 public:
  // A spec that no host could run: sizes and allocation contradict each other.
  static Status check(const VmSpec& spec);

  // Whether the VM fits beside `promises` and the reservations of others. The refusal shows the
  // arithmetic.
  Status admit(const VmSpec& spec, const Promises& promises, Nanoseconds now) const;
  // Whether a running VM's min may become `min_bytes` when `promises` does not count it at all.
  Status raise_min(const VmSpec& spec, uint64_t overhead_bytes, uint64_t min_bytes,
                   const Promises& promises, Nanoseconds now) const;

  // Promises memory to a VM that is not there yet, for so long; replaces an earlier promise.
  Status reserve(const VmSpec& spec, Nanoseconds span, const Promises& promises, Nanoseconds now);
  Status unreserve(const std::string& name, Nanoseconds now);
  // The VM has arrived: its reservation has served.
  void arrived(const std::string& name) { reservations_.erase(name); }

  uint64_t unreserved(const Promises& promises, Nanoseconds now) const;
  std::vector<Reservation> reservations(Nanoseconds now) const;

 private:
  struct Ahead {
    uint64_t configured_bytes;
    uint64_t min_bytes;
    uint64_t needed_bytes;  // min + overhead
    Nanoseconds until;
  };
  uint64_t reserved_for_others(const std::string& name, Nanoseconds now) const;
  Status fits(const std::string& what, uint64_t needed, uint64_t reserved,
              const Promises& promises) const;

  std::map<std::string, Ahead> reservations_;
};

}  // namespace ballast::engine
