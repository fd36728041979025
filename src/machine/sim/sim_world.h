// SimWorld: what all parts of the simulated machine share: clock, random numbers, trace and
// interleaving points.
//
// One thread. Every contract call passes point() before it acts, after it acted and between two
// pages; there the owner's hook may run guest accesses or kill the daemon. A kill is the exception
// DaemonKilled: it unwinds the engine in the middle of its call. From that instant the world is
// *abandoned*: calls have no effect, pass no point and throw nothing (destructors run while
// unwinding), until adopt() starts the next daemon's life.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "base/random.h"
#include "base/units.h"
#include "machine/clock.h"

namespace ballast::machine::sim {

// kill -9 of the daemon at this instant. Not an error: caught by the simulator's loop alone.
struct DaemonKilled {};

// Breaches of the contract, for proving that the judges would notice. All off in honest runs.
struct SimMachineBugs {
  bool seal_leaks = false;     // some writes to sealed pages do not trap
  bool stale_slots = false;    // some reads return what the slot held before
  bool lost_wakes = false;     // some installs forget to wake
  bool dirty_frames = false;   // some zeroed pages show another VM's old frame
  bool arena_flips = false;    // bytes behind the arena change by themselves
  bool shared_writes = false;  // some writes to shared pages change the frame
};

class SimWorld final : public Clock {
 public:
  explicit SimWorld(uint64_t seed) : random_(seed) {}
  SimWorld(const SimWorld&) = delete;
  SimWorld& operator=(const SimWorld&) = delete;

  // Reading the clock takes time too, so a loop that waits for an instant ends.
  Nanoseconds now() const override { return now_ += 25; }
  Nanoseconds peek() const { return now_; }
  void advance(Nanoseconds span) { now_ += span; }

  // An interleaving point. May throw DaemonKilled.
  void point(Nanoseconds cost = 100) {
    now_ += cost;
    if (hook_ && !abandoned_) hook_();
  }
  void set_hook(std::function<void()> hook) { hook_ = std::move(hook); }
  [[noreturn]] void kill_daemon() {
    abandoned_ = true;
    throw DaemonKilled{};
  }
  bool abandoned() const { return abandoned_; }
  void adopt() {
    abandoned_ = false;
    ++life_;
  }
  // Differs from daemon to daemon: what was asked of the VMs' side dies with the one that asked.
  uint64_t life() const { return life_; }

  Random& random() { return random_; }
  // Zero when misbehaviour was stopped.
  bool chance(uint32_t permille) { return permille != 0 && !honest_ && random_.chance(permille); }
  void stop_faults() { honest_ = true; }
  bool faults_stopped() const { return honest_; }

  SimMachineBugs bugs;

  // Guest frames present in all VMs; `on_growth` is called after each step that may have added
  // memory.
  void frames_changed(int64_t delta) { frames_ += delta; }
  uint64_t frames() const { return static_cast<uint64_t>(frames_); }
  void grown() const {
    if (on_growth) on_growth();
  }
  std::function<void()> on_growth;

  // Folds a step into the trace; prints it when asked.
  void note(std::string_view what, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0);
  uint64_t trace_hash() const { return hash_; }
  uint64_t steps() const { return steps_; }
  void print_trace(bool on) { print_ = on; }

 private:
  Random random_;
  mutable Nanoseconds now_ = kMillisecond;
  std::function<void()> hook_;
  bool abandoned_ = false;
  uint64_t life_ = 0;
  bool honest_ = false;
  bool print_ = false;
  int64_t frames_ = 0;
  uint64_t hash_ = 0xcbf29ce484222325;
  uint64_t steps_ = 0;
};

}  // namespace ballast::machine::sim
