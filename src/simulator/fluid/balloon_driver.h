// BalloonDriver: the guest's side of the balloon, at the rates of VMware's open driver, which
// Linux guests under memory pressure resemble: 64 MB/s out of free memory, 2 to 8 MB/s when the
// guest must drop cache or swap for it. It may be late, deaf, slow, stuck, or lie.
#pragma once

#include <cstdint>

#include "machine/balloon.h"
#include "simulator/fluid/guest.h"
#include "simulator/fluid/plan.h"

namespace ballast::simulator::fluid {

class BalloonDriver {
 public:
  explicit BalloonDriver(const VmPlan& plan) : plan_(plan) {}

  // The size that the host asks for.
  void request(uint64_t balloon_bytes) { request_ = to_bytes(balloon_bytes); }
  void set_stats_period(double seconds) { stats_period_ = seconds; }
  // One step at `now` seconds of the run.
  void run(Guest& guest, double now, double seconds);
  // What the host is shown; statistics are as old as the driver's period.
  machine::BalloonView view() const { return view_; }

 private:
  void inflate(Guest& guest, Bytes by, double seconds);
  void show(const Guest& guest, double now);

  const VmPlan& plan_;
  Bytes request_ = 0;
  Bytes pressed_rate_ = 0;
  double stats_period_ = 2;
  double stats_at_ = -kNever;
  machine::BalloonView view_;
};

}  // namespace ballast::simulator::fluid
