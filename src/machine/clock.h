// Clock: monotonic nanoseconds, real or simulated. Part of the machine contract. Any thread.
#pragma once

#include "base/units.h"

namespace ballast::machine {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual Nanoseconds now() const = 0;
};

}  // namespace ballast::machine
