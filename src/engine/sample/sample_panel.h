// SamplePanel: the pages of one VM that the period under way watches, in the order of their
// numbers. See active_estimator.h for the groups.
//
// Fixed size; no call allocates. Worker only.
#pragma once

#include <span>
#include <vector>

#include "base/random.h"
#include "base/units.h"
#include "engine/sample/active_estimator.h"

namespace ballast::engine {

class SamplePanel {
 public:
  struct Entry {
    PageIndex page;
    bool fresh : 1 = false;
    bool hot : 1 = false;
    bool cold : 1 = false;
    bool touched : 1 = false;  // in this period
    bool armed : 1 = false;    // has a frame whose sample was started: touched() tells
  };

  SamplePanel();

  std::span<Entry> all() { return entries_; }
  std::span<Entry> within(PageRun run);
  const SampleCounts& counts() const { return counts_; }

  void mark_touched(Entry& entry);
  // The next period: of the fresh entries some are kept as hot and cold, and new ones chosen, one
  // from each of `plan.fresh` equal stretches of the VM. Entries that stay armed were not touched
  // since.
  void renew(const SamplePlan& plan, uint32_t pages, Random& random);
  void clear();

 private:
  void keep_some(const SamplePlan& plan, Random& random);
  void choose_fresh(uint32_t count, uint32_t pages, Random& random);
  void add(const Entry& entry);

  std::vector<Entry> entries_;
  std::vector<Entry> kept_;  // scratch of renew()
  SampleCounts counts_;
};

}  // namespace ballast::engine
