// RunClock: a clock that can be stopped: how long something has run, not counting its pauses. Takes
// the instants of the clock behind it as arguments. One thread.
#pragma once

#include "base/units.h"

namespace ballast {

class RunClock {
 public:
  // Tells whether it runs from now on; telling it twice changes nothing.
  void set_running(bool running, Nanoseconds now) {
    if (running == running_) return;
    running_ = running;
    if (running) {
      stopped_for_ += now - stopped_at_;
    } else {
      stopped_at_ = now;
    }
  }
  Nanoseconds at(Nanoseconds now) const { return (running_ ? now : stopped_at_) - stopped_for_; }

 private:
  bool running_ = true;
  Nanoseconds stopped_at_ = 0;
  Nanoseconds stopped_for_ = 0;
};

}  // namespace ballast
