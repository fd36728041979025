#include "engine/sample/active_sampler.h"

#include <algorithm>

namespace ballast::engine {

namespace {
// Entries of the page map between two watched pages that are cheaper to read along than to skip: a
// system call costs as much as ~100 of them.
constexpr uint32_t kGapPages = 64;
// The VM's side takes this long at most, but for a very busy host, to start samples. Until then
// their pages still look touched.
constexpr Nanoseconds kSettling = 20 * kMillisecond;
}  // namespace

ActiveSampler::ActiveSampler(Vm& vm)
    : vm_(vm), random_(~vm.seed), estimator_(vm.tables.page_count()) {
  static_assert(ActiveEstimator::kPagesMax * (2 * sizeof(SamplePanel::Entry) + sizeof(PageRun)) +
                    sizeof(ActiveSampler) <=
                kMemoryBytes);
  runs_.reserve(ActiveEstimator::kPagesMax);
  vm.sampler = this;
  set(vm.options);
}

void ActiveSampler::set(const Options& options) {
  budget_ = options.sample_faults;
  floor_percent_ = options.sample_active_min_percent;
  const Nanoseconds period = options.sample_period_s * kSecond;
  if (period == period_) return;
  period_ = period;
  panel_.clear();
  // What was touched within one length says little about another.
  estimator_ = ActiveEstimator(vm_.tables.page_count());
  due_ = 0;
}

void ActiveSampler::turn(Nanoseconds run_time) {
  if (run_time < due_ || vm_.gone) return;
  if (!on()) {
    due_ = kNever;
    return;
  }
  if (panel_.all().empty()) return start_period(run_time);
  look(panel_.all());
  if (run_time - started_ < period_) {
    now_ = estimator_.now(panel_.counts());
    // What came in meanwhile. If it fails these pages are asked for by the next look.
    if (faults_cost_ - cost_before_ < budget_) (void)arm();
    due_ = std::min(run_time + period_ / kLooksPerPeriod, started_ + period_);
    return;
  }
  estimator_.close_period(panel_.counts());
  start_period(run_time);
}

void ActiveSampler::start_period(Nanoseconds run_time) {
  const SampleCounts& ended = panel_.counts();
  const double resident = static_cast<double>(vm_.charged_frames) / vm_.tables.page_count();
  panel_.renew(estimator_.plan(budget_, resident, ended.fresh.touched,
                               ended.fresh.pages - ended.fresh.touched),
               vm_.tables.page_count(), random_);
  // Without the samples all pages would look touched. The next try starts over: pages that were
  // watched for the last period cannot be compared over a gap.
  if (!arm()) panel_.clear();
  started_ = run_time;
  cost_before_ = faults_cost_;
  now_ = {};
  due_ = run_time + period_ / kLooksPerPeriod;
}

bool ActiveSampler::has_frame_now(PageIndex page) const {
  return has_frame(vm_.state(page)) && !vm_.discard_bit(page);
}

// Starts samples of the pages that have a frame and are not watched yet.
bool ActiveSampler::arm() {
  runs_.clear();
  for (SamplePanel::Entry& entry : panel_.all()) {
    if (entry.touched || entry.armed || !has_frame_now(entry.page)) continue;
    entry.armed = true;
    if (!runs_.empty() && runs_.back().end() == entry.page) {
      ++runs_.back().count;
    } else {
      runs_.push_back({entry.page, 1});
    }
  }
  armed_at_ = vm_.clock.now();
  if (runs_.empty() || vm_.memory.start_sample(runs_)) return true;
  for (const PageRun& run : runs_) {
    for (SamplePanel::Entry& entry : panel_.within(run)) entry.armed = false;
  }
  return false;
}

bool ActiveSampler::is_watched(const SamplePanel::Entry& entry) const {
  return entry.armed && !entry.touched && has_frame_now(entry.page);
}

// Finds out which of these pages were touched since their sample was started.
void ActiveSampler::look(std::span<SamplePanel::Entry> entries) {
  size_t at = 0;
  while (at < entries.size()) {
    if (!is_watched(entries[at])) {
      entries[at++].armed = false;  // it lost its frame, or needs no more watching
      continue;
    }
    const PageIndex first = entries[at].page;
    size_t end = at + 1;
    while (end < entries.size() && entries[end].page - first < kSpanPages &&
           entries[end].page - entries[end - 1].page <= kGapPages) {
      ++end;
    }
    const PageRun run{first, entries[end - 1].page - first + 1};
    if (vm_.memory.touched(run, touched_) == machine::MemoryResult::kGone) {
      vm_.gone = true;
      return;
    }
    for (; at < end; ++at) {
      SamplePanel::Entry& entry = entries[at];
      const uint32_t bit = entry.page - first;
      if (!is_watched(entry)) {
        entry.armed = false;
      } else if ((touched_[bit / 64] >> (bit % 64) & 1) != 0) {
        panel_.mark_touched(entry);
        ++faults_cost_;
      }
    }
  }
}

void ActiveSampler::note_fault(PageIndex page) {
  for (SamplePanel::Entry& entry : panel_.within({page, 1})) panel_.mark_touched(entry);
}

// Pages that were there already have a sample that tells.
void ActiveSampler::note_walk(PageRun run) {
  for (SamplePanel::Entry& entry : panel_.within(run)) {
    if (!entry.armed) panel_.mark_touched(entry);
  }
}

void ActiveSampler::before_zap(PageRun run) {
  // Samples are started right after a look: what is missed is what was touched since.
  if (vm_.clock.now() - armed_at_ >= kSettling) look(panel_.within(run));
}

void ActiveSampler::before_evict(PageRun run) {
  before_zap(run);
  note_gone(run);
}

void ActiveSampler::note_gone(PageRun run) {
  for (SamplePanel::Entry& entry : panel_.within(run)) entry.armed = false;
}

ActiveSampler::Estimate ActiveSampler::estimate() const {
  Estimate result;
  result.faults_cost = faults_cost_;
  result.periods = estimator_.periods();
  if (result.periods == 0) {
    result.active = pages_to_bytes(vm_.charged_frames);
    return result;
  }
  const auto bytes = [this](double fraction) {
    return static_cast<uint64_t>(std::clamp(fraction, 0.0, 1.0) *
                                 static_cast<double>(vm_.spec.configured_bytes));
  };
  const ActiveEstimator::Reading slow = estimator_.slow();
  const ActiveEstimator::Reading fast = estimator_.fast();
  const ActiveEstimator::Reading largest = std::max(
      {slow, fast, now_}, [](const auto& a, const auto& b) { return a.fraction < b.fraction; });
  result.slow = bytes(slow.fraction);
  result.fast = bytes(fast.fraction);
  result.now = bytes(now_.fraction);
  result.active = std::max(bytes(largest.fraction), bytes(floor_percent_ / 100.0));
  result.error = bytes(largest.error);
  result.period = bytes(estimator_.last().fraction);
  result.period_error = bytes(estimator_.last().error);
  return result;
}

}  // namespace ballast::engine
