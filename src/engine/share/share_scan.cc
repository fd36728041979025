#include "engine/share/share_scan.h"

#include <algorithm>

namespace ballast::engine {

namespace {

constexpr uint32_t kChangesMax = 5;  // skipped for up to 32 passes
constexpr uint32_t kWalkMax = 4096;  // entries looked at to find a run
constexpr uint64_t kPayOne = 512;    // a pass pays if it shares one page in so many
constexpr uint32_t kSlowedMax = 16;
constexpr Nanoseconds kPostponeMax = 50 * kMillisecond;
constexpr uint64_t kFreshMin = 64;                       // pages for which a pass is made
constexpr Nanoseconds kFreshDelay = 500 * kMillisecond;  // until their content has settled
constexpr Nanoseconds kFreshPeriod = 2 * kSecond;        // between two fresh passes
constexpr uint32_t kTriesMax = 20;                       // for a VM that does not answer letters
constexpr uint16_t kPieceMask = 0xfff;

}  // namespace

ShareScan::ShareScan(Vm& vm, Sharer& sharer, bool on) : vm_(vm), sharer_(sharer), on_(on) {
  if (on_) seen_.resize(vm_.tables.page_count());
}

void ShareScan::set(uint32_t rate_max, uint32_t pass_seconds) {
  rate_max_ = rate_max;
  pass_seconds_ = pass_seconds;
  if (is_off()) {
    full_.due = fresh_.due = kNever;
  } else if (full_.due == kNever) {
    full_.due = 0;
  }
}

uint32_t ShareScan::full_rate() const {
  const uint32_t wanted = std::max(vm_.tables.page_count() / std::max(pass_seconds_, 1u), 1u);
  return std::max(std::min(wanted, rate_max_) / slowed_, 1u);
}

uint32_t ShareScan::rate() const {
  if (is_off()) return 0;
  return fresh_.due == kNever ? full_rate() : rate_max_;
}

// Pages that came into memory, in whatever way.
uint64_t ShareScan::filled() const {
  return vm_.counters.first_touches + vm_.counters.unzips + vm_.counters.swap_ins;
}

Nanoseconds ShareScan::next_due() const {
  const Nanoseconds due = std::min(full_.due, fresh_.due);
  const bool waits = fresh_.due == kNever && filled() - filled_before_ >= kFreshMin && !is_off();
  return waits ? std::min(due, fresh_from_) : due;
}

void ShareScan::start_fresh(Nanoseconds run_time) {
  if (fresh_.due != kNever || run_time < fresh_from_) return;
  if (filled() - filled_before_ < kFreshMin) return;
  filled_before_ = filled();
  fresh_ = {0, run_time + kFreshDelay};
}

bool ShareScan::wants(PageIndex page, bool fresh) {
  const PageEntry entry = vm_.get(page);
  uint16_t& seen = seen_[page.raw()];
  if (!has_frame(entry.state())) {
    if (!is_away(entry.state())) seen = 0;  // when it comes back it is fresh
    return false;
  }
  if (entry.in_flight()) return false;
  if (fresh) return seen == 0;
  const uint32_t changes = seen >> 12;
  return changes == 0 || (passes_ & ((1u << changes) - 1)) == 0;
}

PageRun ShareScan::next_run(Pass& pass, bool fresh) {
  const uint32_t pages = vm_.tables.page_count();
  uint32_t walked = 0;
  while (pass.hand < pages && walked < kWalkMax && !wants(PageIndex(pass.hand), fresh)) {
    ++pass.hand;
    ++walked;
  }
  PageRun run{PageIndex(pass.hand), 0};
  while (pass.hand < pages && run.count < kRunPages && wants(PageIndex(pass.hand), fresh)) {
    ++pass.hand;
    ++run.count;
  }
  return run;
}

void ShareScan::note(PageRun run, const Sharer::Looks& looks) {
  for (uint32_t i = 0; i < run.count; ++i) {
    if (!looks[i].taken) continue;
    ++looked_in_pass_;
    uint16_t& seen = seen_[(run.first + i).raw()];
    const auto piece = static_cast<uint16_t>(looks[i].hash.high % kPieceMask + 1);
    uint32_t changes = seen >> 12;
    if ((seen & kPieceMask) != 0) {
      changes = (seen & kPieceMask) == piece ? 0 : std::min(changes + 1, kChangesMax);
    }
    seen = static_cast<uint16_t>(changes << 12 | piece);
  }
}

void ShareScan::end_pass() {
  full_.hand = 0;
  ++passes_;
  const uint64_t gained = vm_.counters.share_joins + vm_.counters.zero_drops;
  const uint64_t shared = gained - gained_before_;
  gained_before_ = gained;
  if (looked_in_pass_ >= kPayOne) {
    const bool pays = shared * kPayOne >= looked_in_pass_;
    slowed_ = pays ? 1 : std::min(slowed_ * 2, kSlowedMax);
  }
  looked_in_pass_ = 0;
}

void ShareScan::look(Pass& pass, bool fresh, Nanoseconds run_time) {
  const PageRun run = next_run(pass, fresh);
  uint32_t cost = 1;  // a walk that found nothing is not free either
  if (run.count > 0) {
    Sharer::Looks looks;
    sharer_.look_at(run, looks);
    note(run, looks);
    cost = run.count;
    if (sharer_.missed_some() && ++tries_ < kTriesMax) {
      pass.hand = run.first.raw();
      pass.due = run_time + 10 * kMillisecond;
      for (uint32_t i = 0; fresh && i < run.count; ++i) seen_[(run.first + i).raw()] = 0;
      return;
    }
    tries_ = 0;
  }
  // From when it was due: a worker that is late now and then still keeps the rate; one that is very
  // late does not make up for it.
  const Nanoseconds from = run_time - std::min(run_time - pass.due, 10 * kMillisecond);
  pass.due = from + cost * kSecond / std::max(fresh ? rate_max_ : full_rate(), 1u);
  if (pass.hand < vm_.tables.page_count()) return;
  if (fresh) {
    pass.due = kNever;
    fresh_from_ = run_time + kFreshPeriod;
  } else {
    end_pass();
  }
}

void ShareScan::put_off(Nanoseconds run_time) {
  full_.due = std::max(full_.due, run_time + kMillisecond);
  fresh_.due = std::max(fresh_.due, run_time + kMillisecond);
}

void ShareScan::turn(Nanoseconds run_time, bool busy) {
  if (is_off() || vm_.gone) return;
  start_fresh(run_time);
  if (run_time < std::min(full_.due, fresh_.due)) return;
  if (sharer_.behind()) return put_off(run_time);
  if (busy) {
    if (postponed_ == 0) postponed_ = run_time;
    if (run_time - postponed_ < kPostponeMax) return put_off(run_time);
  }
  postponed_ = 0;
  if (run_time >= fresh_.due) {
    look(fresh_, true, run_time);
  } else {
    look(full_, false, run_time);
  }
}

}  // namespace ballast::engine
