#include "machine/sim/sim_balloon.h"

#include <utility>

namespace ballast::machine::sim {

namespace {

// After it found nothing to take, or returned pages for its guest's sake.
constexpr Nanoseconds kRetry = 200 * kMillisecond;
constexpr uint32_t kPoppedPages = 64;

Nanoseconds page_time(uint64_t bytes_per_second) {
  return std::max<uint64_t>(1, kPageBytes * kSecond / bytes_per_second);
}

}  // namespace

BalloonedGuest::Page PlainGuest::take_page() {
  const bool has_free = free_bytes >= kPageBytes;
  uint64_t& source = has_free ? free_bytes : reclaimable_bytes;
  if (source < kPageBytes) return Page::kNone;
  source -= kPageBytes;
  taken_bytes_ += kPageBytes;
  return has_free ? Page::kFree : Page::kReclaimed;
}

bool PlainGuest::return_page() {
  taken_bytes_ -= kPageBytes;
  free_bytes += kPageBytes;
  return true;
}

void SimBalloon::step(Nanoseconds now) {
  now_ = now;
  if (driver_at_ == UINT64_MAX) {
    driver_at_ = now + options_.boot;
    next_at_ = now;
  }
  if (reachable_) target_bytes_ = wish_bytes_;
  const bool up = options_.device && !paused_ && now >= driver_at_;
  if (up && !options_.deaf) {
    move();
  } else {
    next_at_ = now;  // lost time is not made up for
  }
  if (up) tell();
  if (reachable_ && now >= shown_at_ + options_.view_period) {
    shown_bytes_ = size_bytes();
    shown_at_ = now;
  }
}

void SimBalloon::reset() {
  guest_.return_all();
  pages_ = 0;
  shown_bytes_ = 0;
  stats_.reset();
  driver_at_ = UINT64_MAX;
  ++resets_;
}

uint64_t SimBalloon::target_pages() const {
  const uint64_t size_bytes = ram_bytes_ - std::min(target_bytes_, ram_bytes_);
  return pages_floor(std::min(size_bytes, options_.most_bytes));
}

void SimBalloon::move() {
  if (options_.pops != 0 && random_.chance(options_.pops)) {
    for (uint32_t i = 0; i < kPoppedPages && pages_ > 0 && guest_.return_page(); ++i) --pages_;
    next_at_ = now_ + kRetry;
  }
  const uint64_t target = target_pages();
  while (pages_ != target && next_at_ <= now_) {
    if (pages_ > target) {
      if (!guest_.return_page()) break;
      --pages_;
      next_at_ += page_time(options_.return_rate);
      continue;
    }
    const BalloonedGuest::Page page = guest_.take_page();
    if (page == BalloonedGuest::Page::kNone) break;
    ++pages_;
    const bool was_free = page == BalloonedGuest::Page::kFree;
    next_at_ += page_time(was_free ? options_.free_rate : options_.reclaim_rate);
  }
  if (next_at_ <= now_) next_at_ = pages_ == target ? now_ : now_ + kRetry;
}

void SimBalloon::tell() {
  using Stats = SimBalloonOptions::Stats;
  if (stats_period_ == 0 || options_.stats == Stats::kSilent) return;
  if (stats_ && now_ < stats_->at + stats_period_) return;
  stats_ = guest_.memory();
  stats_->at = now_;
  if (options_.total_shrinks && stats_->total_bytes) *stats_->total_bytes -= size_bytes();
  if (options_.stats == Stats::kPoor) stats_->free_bytes = stats_->available_bytes = 0;
  if (options_.stats == Stats::kRich) stats_->free_bytes = stats_->available_bytes = ram_bytes_;
  if (options_.stats == Stats::kNonsense) {
    for (auto* const value :
         {&stats_->total_bytes, &stats_->free_bytes, &stats_->available_bytes,
          &stats_->swap_in_bytes, &stats_->swap_out_bytes, &stats_->major_faults}) {
      *value = random_.chance(300) ? std::nullopt : std::optional(random_.next());
    }
  }
}

BalloonView SimBalloon::view() const {
  using Link = BalloonView::Link;
  BalloonView view;
  if (!options_.device) return view;
  view.link = reachable_ ? Link::kReady : Link::kUnreachable;
  if (!reachable_) view.problem = "the simulated monitor does not answer";
  view.vm_runs = !paused_;
  view.actual_bytes = ram_bytes_ - shown_bytes_;
  view.stats = stats_;
  view.resets = resets_;
  return view;
}

}  // namespace ballast::machine::sim
