#include "engine/sample/sample_panel.h"

#include <algorithm>

#include "base/check.h"

namespace ballast::engine {

SamplePanel::SamplePanel() {
  entries_.reserve(ActiveEstimator::kPagesMax);
  kept_.reserve(ActiveEstimator::kPagesMax);
}

std::span<SamplePanel::Entry> SamplePanel::within(PageRun run) {
  const auto first = std::ranges::lower_bound(entries_, run.first, {}, &Entry::page);
  const auto end = std::ranges::lower_bound(first, entries_.end(), run.end(), {}, &Entry::page);
  return {first, end};
}

void SamplePanel::mark_touched(Entry& entry) {
  if (entry.touched) return;
  entry.touched = true;
  counts_.fresh.touched += entry.fresh ? 1 : 0;
  counts_.hot.touched += entry.hot ? 1 : 0;
  counts_.cold.touched += entry.cold ? 1 : 0;
}

void SamplePanel::clear() {
  entries_.clear();
  counts_ = {};
}

void SamplePanel::renew(const SamplePlan& plan, uint32_t pages, Random& random) {
  BALLAST_CHECK(plan.fresh + plan.hot + plan.cold <= ActiveEstimator::kPagesMax &&
                plan.fresh <= pages);
  keep_some(plan, random);
  clear();
  choose_fresh(plan.fresh, pages, random);
}

// Any fresh page of a kind is as likely to be kept as any other of that kind.
void SamplePanel::keep_some(const SamplePlan& plan, Random& random) {
  kept_.clear();
  uint32_t hot_left = counts_.fresh.touched;
  uint32_t cold_left = counts_.fresh.pages - counts_.fresh.touched;
  uint32_t hot_wanted = std::min(plan.hot, hot_left);
  uint32_t cold_wanted = std::min(plan.cold, cold_left);
  for (const Entry& entry : entries_) {
    if (!entry.fresh) continue;
    uint32_t& left = entry.touched ? hot_left : cold_left;
    uint32_t& wanted = entry.touched ? hot_wanted : cold_wanted;
    const bool keep = random.below(left) < wanted;
    --left;
    if (!keep) continue;
    --wanted;
    Entry kept{entry.page};
    kept.hot = entry.touched;
    kept.cold = !entry.touched;
    kept.armed = entry.armed && !entry.touched;
    kept_.push_back(kept);
  }
}

// Merges them with the kept ones; a page may be both. Stretches end anywhere within a page, so that
// every page is as likely as any other also where they are only a few pages long.
void SamplePanel::choose_fresh(uint32_t count, uint32_t pages, Random& random) {
  constexpr int kFraction = 16;
  const uint64_t length = uint64_t{pages} << kFraction;
  size_t next_kept = 0;
  PageIndex unused(0);  // the first page that was not chosen yet
  for (uint32_t i = 0; i < count; ++i) {
    const uint64_t at = random.between(length * i / count, length * (i + 1) / count - 1);
    Entry chosen{std::max(PageIndex(static_cast<uint32_t>(at >> kFraction)), unused)};
    unused = chosen.page + 1;
    while (next_kept < kept_.size() && kept_[next_kept].page < chosen.page) {
      add(kept_[next_kept++]);
    }
    if (next_kept < kept_.size() && kept_[next_kept].page == chosen.page) {
      chosen = kept_[next_kept++];
    }
    chosen.fresh = true;
    add(chosen);
  }
  while (next_kept < kept_.size()) add(kept_[next_kept++]);
}

void SamplePanel::add(const Entry& entry) {
  entries_.push_back(entry);
  counts_.fresh.pages += entry.fresh ? 1 : 0;
  counts_.hot.pages += entry.hot ? 1 : 0;
  counts_.cold.pages += entry.cold ? 1 : 0;
}

}  // namespace ballast::engine
