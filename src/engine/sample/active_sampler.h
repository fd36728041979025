// ActiveSampler: how much of one VM's memory is active, that is touched at least once within a
// sampling period of the VM's own run time.
//
// ESX samples 100 random pages per period and knows ±10 % of the VM. For the same cost in faults
// this one knows ±5 %: only *touched* samples cost anything, so where little is touched more pages
// are watched, and pages of the last period are watched again (active_estimator.h).
//
// How a touch of a watched page is seen: a page with a frame by the machine's access sampling; it
// costs the guest one minor fault. A page without one faults anyway, and note_fault() hears of it.
// A page that came in beside another one's fault counts as touched if the guest walks there
// (note_walk); else its sample is started late, by the next look, and what came before is missed.
//
// Published is the largest of three averages, as ESX does: slow, fast, and the fast one with the
// period under way in it. So the number rises within a period and falls over several. Its error is
// that of the sampling; that a slow average lags behind a guest that went quiet is meant.
//
// Nothing outlives the daemon. Worker only; no call allocates.
#pragma once

#include <array>
#include <limits>

#include "base/random.h"
#include "engine/sample/sample_panel.h"
#include "engine/vm.h"

namespace ballast::engine {

class ActiveSampler {
 public:
  static constexpr Nanoseconds kNever = std::numeric_limits<Nanoseconds>::max();
  // What one sampler occupies, charged with the VM's overhead.
  static constexpr uint64_t kMemoryBytes = 64 * 1024;

  struct Estimate {
    uint64_t active = 0;  // bytes of guest memory, as the others; with a floor (see set())
    uint64_t error = 0;   // of `active`, ± at 95 % confidence
    uint64_t slow = 0;
    uint64_t fast = 0;
    uint64_t now = 0;
    uint64_t period = 0;        // the last complete period alone …
    uint64_t period_error = 0;  // … ± at 95 % confidence
    uint64_t periods = 0;       // 0: no estimate yet, `active` is all that has a frame
    uint64_t faults_cost = 0;   // since the start
  };

  // Makes itself vm.sampler.
  explicit ActiveSampler(Vm& vm);
  ActiveSampler(const ActiveSampler&) = delete;
  ActiveSampler& operator=(const ActiveSampler&) = delete;

  // The sampling options: period (0: off), faults per period, floor. A new period starts if the
  // length changed; else they apply from the next one.
  void set(const Options& options);

  // Does what is due at this run time of the VM; cheap when nothing is.
  void turn(Nanoseconds run_time);
  // The run time at which turn() has work.
  Nanoseconds next_due() const { return due_; }

  // A guest access to the page raised an event.
  void note_fault(PageIndex page);
  // Pages that are brought in ahead of a guest that walks through them.
  void note_walk(PageRun run);
  // Somebody else is about to start a sample of these pages, or to take their frames.
  void before_zap(PageRun run);
  void before_evict(PageRun run);
  // Their frames are gone: a page that comes back is mapped by that, not by a touch.
  void note_gone(PageRun run);

  Estimate estimate() const;

 private:
  static constexpr uint32_t kLooksPerPeriod = 16;
  static constexpr uint32_t kSpanPages = 4096;  // one call of touched()

  bool on() const { return period_ != 0 && vm_.memory.can_sample(); }
  void start_period(Nanoseconds run_time);
  bool arm();
  void look(std::span<SamplePanel::Entry> entries);
  bool is_watched(const SamplePanel::Entry& entry) const;
  bool has_frame_now(PageIndex page) const;

  Vm& vm_;
  Random random_;
  SamplePanel panel_;
  ActiveEstimator estimator_;
  Nanoseconds period_ = 0;
  uint32_t budget_ = 0;
  uint32_t floor_percent_ = 0;
  Nanoseconds started_ = 0;  // the period under way, if the panel is not empty
  Nanoseconds due_ = 0;
  Nanoseconds armed_at_ = 0;  // of the clock, not the run time
  ActiveEstimator::Reading now_;
  uint64_t faults_cost_ = 0;
  uint64_t cost_before_ = 0;   // the period under way
  std::vector<PageRun> runs_;  // scratch of arm()
  std::array<uint64_t, kSpanPages / 64> touched_{};
};

}  // namespace ballast::engine
