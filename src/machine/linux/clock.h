// MonotonicClock: CLOCK_MONOTONIC in nanoseconds. Any thread; about 20 ns a call through the vDSO.
#pragma once

#include <time.h>

#include "machine/clock.h"

namespace ballast::linux_machine {

class MonotonicClock final : public machine::Clock {
 public:
  Nanoseconds now() const override {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<Nanoseconds>(time.tv_sec) * kSecond + static_cast<Nanoseconds>(time.tv_nsec);
  }
};

}  // namespace ballast::linux_machine
