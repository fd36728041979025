#include "simulator/fluid/guest.h"

#include <algorithm>

#include "base/check.h"
#include "base/units.h"

namespace ballast::simulator::fluid {

namespace {

// How fast a guest touches new memory, and zeroes it at boot.
constexpr Bytes kTouchRate = 2 * kGb;
constexpr Bytes kCacheRate = 200 * kMb;  // page cache grows as fast as files are read
// Every byte that is in use all the time is touched once in this time; the rest in that.
constexpr double kHotPeriod = 2;
constexpr double kColdPeriod = 600;
constexpr Bytes kGuestDiskRate = 50 * kMb;  // the guest's own swap
// Page by page, a vCPU waits for each.
constexpr Bytes kSwapInRate = 100 * kMb;
constexpr Bytes kUnzipRate = 1 * kGb;
constexpr Bytes kReportRate = 1 * kGb;
constexpr Bytes kPage = kPageBytes;
constexpr Bytes kRounding = kPage;

// Moves `part` of `from` to `to`.
void move_part(Bytes& from, Bytes& to, double part) {
  const Bytes moved = from * part;
  from -= moved;
  to += moved;
}

double part_of(Bytes part, Bytes whole) { return whole > 0 ? std::min(1.0, part / whole) : 0; }

}  // namespace

Guest::Guest(const VmPlan& plan)
    : configured_(plan.configured), swap_size_(plan.guest_swap), pending_zero_(plan.boot_zeroes) {
  // What runs since before the recording has its memory; what boots starts with nothing.
  if (plan.boots_at > 0) return;
  wish_ = plan.demand.at(0);
  resident_.hot = wish_.used * wish_.active;
  resident_.cold = wish_.used - resident_.hot;
  resident_.cache = wish_.cache;
  resident_.stale = plan.touched;
  BALLAST_CHECK(resident_.total() <= configured_ + kRounding);
}

Bytes Guest::untouched() const {
  return std::max(0.0, configured_ - balloon_ - resident_.total() - paged_.total());
}

Bytes Guest::free_inside() const {
  return resident_.stale + resident_.zero + paged_.stale + untouched();
}

void Guest::check() const {
  const Bytes sum = balloon_ + resident_.total() + paged_.total();
  BALLAST_CHECK_THAT(sum <= configured_ + kRounding, "{} of {} bytes", sum, configured_);
  const Bytes least =
      std::min({balloon_, pending_, pending_zero_, swapped_hot_, swapped_cold_, resident_.hot,
                resident_.cold, resident_.cache, resident_.stale, resident_.zero, paged_.hot,
                paged_.cold, paged_.cache, paged_.stale});
  BALLAST_CHECK_THAT(least >= -kRounding, "{} bytes", least);
}

void Guest::follow(const DemandPoint& wish) {
  wish_ = wish;
  // What the guest has put to use before the zeroing came to it needs none.
  pending_zero_ = std::min(pending_zero_, untouched());
  const Bytes held = resident_.in_use() + paged_.in_use() + swapped_hot_ + swapped_cold_;
  if (wish.used >= held) {
    pending_ = wish.used - held;
  } else {
    pending_ = 0;
    const double freed = part_of(held - wish.used, held);
    move_part(resident_.hot, resident_.stale, freed);
    move_part(resident_.cold, resident_.stale, freed);
    move_part(paged_.hot, paged_.stale, freed);
    move_part(paged_.cold, paged_.stale, freed);
    swapped_hot_ *= 1 - freed;
    swapped_cold_ *= 1 - freed;
  }
  // What it is about to touch first is hot as long as it lacks it.
  const Bytes hot = resident_.hot + paged_.hot + swapped_hot_;
  const Bytes hot_wanted = std::max(0.0, wish.used * wish.active - pending_);
  if (hot > hot_wanted) {
    const double cooled = part_of(hot - hot_wanted, hot);
    move_part(resident_.hot, resident_.cold, cooled);
    move_part(paged_.hot, paged_.cold, cooled);
    move_part(swapped_hot_, swapped_cold_, cooled);
  } else {
    const double warmed = part_of(hot_wanted - hot, resident_.cold + paged_.cold + swapped_cold_);
    move_part(resident_.cold, resident_.hot, warmed);
    move_part(paged_.cold, paged_.hot, warmed);
    move_part(swapped_cold_, swapped_hot_, warmed);
  }
  if (cache() > wish.cache) {
    const double dropped = part_of(cache() - wish.cache, cache());
    move_part(resident_.cache, resident_.stale, dropped);
    move_part(paged_.cache, paged_.stale, dropped);
  }
}

// What it touches of what is on its own swap.
Bytes Guest::returning(double seconds) const {
  return swapped_hot_ * std::min(1.0, seconds / kHotPeriod) +
         swapped_cold_ * std::min(1.0, seconds / kColdPeriod);
}

double Guest::make_room(double seconds) {
  Bytes lacking = std::min(pending_, kTouchRate * seconds) + returning(seconds) - free_inside();
  if (lacking <= 0) return 0;
  const Bytes dropped = std::min(lacking, cache());
  const double part = part_of(dropped, cache());
  move_part(resident_.cache, resident_.stale, part);
  move_part(paged_.cache, paged_.stale, part);
  lacking -= dropped;
  const Bytes swapped = std::min({lacking, resident_.in_use(), kGuestDiskRate * seconds,
                                  std::max(0.0, swap_size_ - guest_swapped())});
  const Bytes cold = std::min(swapped, resident_.cold);
  resident_.cold -= cold;
  swapped_cold_ += cold;
  resident_.hot -= swapped - cold;
  swapped_hot_ += swapped - cold;
  resident_.stale += swapped;
  swap_out_total_ += swapped;
  return swapped / kGuestDiskRate;
}

Wants Guest::wants(double seconds) const {
  Wants wants;
  const double hot_part = std::min(1.0, seconds / kHotPeriod);
  const double cold_part = std::min(1.0, seconds / kColdPeriod);
  const Bytes new_use = std::min(pending_, kTouchRate * seconds);
  wants.zeroing = std::min({pending_zero_, kTouchRate * seconds, untouched()});
  wants.growth_wanted = new_use + returning(seconds);
  wants.growth = std::min(wants.growth_wanted, std::max(0.0, free_inside() - wants.zeroing));
  Bytes given = resident_.stale + resident_.zero;
  Bytes untouched_left = untouched() - wants.zeroing;
  wants.reuse = std::min(wants.growth, given);
  wants.fresh = std::min(wants.growth - wants.reuse, untouched_left);
  wants.back.stale = std::min(wants.growth - wants.reuse - wants.fresh, paged_.stale);
  wants.back.hot = paged_.hot * hot_part;
  wants.back.cold = paged_.cold * cold_part;
  wants.back.cache = paged_.cache * cold_part;
  given -= wants.reuse;
  untouched_left -= wants.fresh;
  const Bytes for_cache = std::max(0.0, given + untouched_left - kGuestKeepsFree);
  const Bytes more_cache =
      std::clamp(wish_.cache - cache(), 0.0, std::min(kCacheRate * seconds, for_cache));
  wants.cache_reuse = std::min(more_cache, given);
  wants.cache_fresh = more_cache - wants.cache_reuse;
  return wants;
}

Lived Guest::live(const Wants& wants, Bytes frames, double read_part, double swapped_part,
                  double seconds) {
  const double part = std::min(1.0, wants.urgent_frames() > 0 ? frames / wants.urgent_frames() : 1);
  const double back = part * (1 - swapped_part + swapped_part * read_part);
  const Bytes cache_fresh = std::clamp(frames - wants.urgent_frames(), 0.0, wants.cache_fresh);

  const Bytes zeroed = wants.zeroing * part;
  pending_zero_ -= zeroed;
  resident_.zero += zeroed;

  // Growth: from what is there (stale first), from new frames, from stale memory read in again.
  const Bytes stale_used = std::min(wants.reuse, resident_.stale);
  resident_.stale -= stale_used;
  resident_.zero -= wants.reuse - stale_used;
  paged_.stale -= wants.back.stale * back;
  const Bytes grown = wants.reuse + wants.fresh * part + wants.back.stale * back;
  const Bytes new_use = std::min(grown, pending_);
  const Bytes hot_returned = std::min(grown - new_use, swapped_hot_);
  const Bytes cold_returned = std::min(grown - new_use - hot_returned, swapped_cold_);
  pending_ -= new_use;
  swapped_hot_ -= hot_returned;
  swapped_cold_ -= cold_returned;
  resident_.hot += new_use + hot_returned;
  resident_.cold += cold_returned;
  const Bytes guest_read = hot_returned + cold_returned;
  swap_in_total_ += guest_read;

  move_part(paged_.hot, resident_.hot, back * part_of(wants.back.hot, paged_.hot));
  move_part(paged_.cold, resident_.cold, back * part_of(wants.back.cold, paged_.cold));
  move_part(paged_.cache, resident_.cache, back * part_of(wants.back.cache, paged_.cache));

  const Bytes cache_stale = std::min(wants.cache_reuse, resident_.stale);
  resident_.stale -= cache_stale;
  resident_.zero -= std::min(wants.cache_reuse - cache_stale, resident_.zero);
  resident_.cache += wants.cache_reuse + cache_fresh;

  Lived lived;
  lived.read = wants.back.total() * back;
  lived.frames = zeroed + wants.fresh * part + lived.read + cache_fresh;
  // A guest with one busy thread: what it needs comes in the order of its touches, so it gets as
  // far as the part that it is given. It waits for the host for frames and reads, for itself for
  // room inside and its own disk.
  const Bytes urgent_back = wants.back.total() - wants.back.cache;
  const Bytes needed = wants.fresh + wants.zeroing + urgent_back;
  const Bytes met = (wants.fresh + wants.zeroing) * part + urgent_back * back;
  // In a step with less than a page to fetch, most often nothing is missed.
  const double host_part = part_of(needed, kPage) * (1 - part_of(met, needed));
  const double read_time =
      lived.read * (swapped_part / kSwapInRate + (1 - swapped_part) / kUnzipRate);
  lived.host_stall = std::min(seconds, seconds * host_part + read_time);
  const Bytes growth_wanted = wants.growth_wanted;
  const double guest_part =
      part_of(growth_wanted, kPage) * (1 - part_of(wants.growth, growth_wanted));
  lived.guest_stall =
      std::min(seconds - lived.host_stall, seconds * guest_part + guest_read / kGuestDiskRate);
  check();
  return lived;
}

Bytes Guest::report_free(double seconds) {
  const Bytes free = resident_.stale + resident_.zero;
  const double part = part_of(kReportRate * seconds, free);
  resident_.stale *= 1 - part;
  resident_.zero *= 1 - part;
  return free * part;
}

}  // namespace ballast::simulator::fluid
