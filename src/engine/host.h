// Host: the ledger, who may start, and who should have how much. One thread (the daemon's main
// thread, the simulator's loop).
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "engine/ledger/ledger.h"
#include "engine/pager.h"
#include "machine/clock.h"
#include "model/options.h"
#include "model/report.h"

namespace ballast::engine {

class Host {
 public:
  // `own_bytes` is what the daemon itself costs, charged first. Refuses budgets that leave nothing
  // for VMs.
  static Result<std::unique_ptr<Host>> create(uint64_t budget_bytes, uint64_t own_bytes,
                                              Options options, const machine::Clock& clock);

  Ledger& ledger() { return ledger_; }

  // Whether a new VM may start: its min and overhead, and those of all others, fit the budget. The
  // refusal shows the arithmetic.
  Status admit(const VmSpec& spec) const;
  // The pager must be removed before it dies.
  void add(Pager& pager);
  void remove(Pager& pager);
  // Computes every VM's target anew. Call every 100 ms, at arrivals and departures, and under
  // pressure.
  void balance();
  // True while free memory is short enough that workers should look whether they are above target.
  bool short_of_memory() const { return ledger_.free() < ledger_.stop_level(); }
  HostReport report() const;

 private:
  Host(uint64_t budget_bytes, uint64_t own_bytes, const Options& options,
       const machine::Clock& clock);

  Ledger ledger_;
  const uint64_t own_bytes_;
  const Options options_;
  const machine::Clock& clock_;
  const Nanoseconds started_;
  const uint64_t min_free_;
  std::vector<Pager*> pagers_;
};

}  // namespace ballast::engine
