// Overcommit: how much more the VMs want than there is to divide among them, averaged over the last
// 1, 5 and 15 minutes as esxtop shows it: Σ want / divided − 1, never below 0. Above 0 somebody's
// target is less than what he wants; 50 % means that a third of what is wanted is not there.
//
// Exponential averages, like the kernel's load: what was seen longer ago than the average's time
// counts for a third. While there is less history than that, they are averages of what there is.
// No clock of its own.
#pragma once

#include <array>
#include <cstdint>

#include "base/units.h"

namespace ballast::engine {

class Overcommit {
 public:
  struct Averages {
    uint64_t percent_1min = 0;
    uint64_t percent_5min = 0;
    uint64_t percent_15min = 0;
  };

  // What holds from the last call until now. At any intervals.
  void see(uint64_t wanted_bytes, uint64_t divided_bytes, Nanoseconds now);
  Averages averages() const;

 private:
  struct Average {
    Nanoseconds time;
    double sum = 0;     // of what was seen, each by its weight
    double weight = 0;  // of all that was seen; 1 when the history is long
  };
  std::array<Average, 3> averages_ = {{{60 * kSecond}, {300 * kSecond}, {900 * kSecond}}};
  Nanoseconds last_ = 0;  // 0: never
};

}  // namespace ballast::engine
