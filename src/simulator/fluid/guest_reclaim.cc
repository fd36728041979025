// The ways out of a guest's memory: into its balloon, or into the host's stores.
#include <algorithm>

#include "base/check.h"
#include "simulator/fluid/guest.h"

namespace ballast::simulator::fluid {

namespace {

Bytes take(Bytes& from, Bytes most) {
  const Bytes taken = std::clamp(most, 0.0, std::max(0.0, from));
  from -= taken;
  return taken;
}

// Takes `bytes` from amounts, of each in proportion to its size.
template <typename... Amount>
Bytes take_evenly(Bytes bytes, Amount&... amounts) {
  const Bytes all = (amounts + ...);
  if (all <= 0 || bytes <= 0) return 0;
  const double part = std::min(1.0, bytes / all);
  ((amounts -= amounts * part), ...);
  return all * part;
}

}  // namespace

Bytes Guest::give_free(Bytes most) {
  most = std::min(most, free_inside() - kGuestKeepsFree);
  if (most <= 0) return 0;
  const Bytes untouched_before = untouched();
  Bytes given = take(resident_.stale, most);
  given += take(resident_.zero, most - given);
  given += take(paged_.stale, most - given);
  given += std::min(most - given, untouched_before);
  balloon_ += given;
  return given;
}

Bytes Guest::give_pressed(Bytes most) {
  // The driver's allocations make the guest drop cache, then swap what it touches rarely. What
  // the host has paged out must be read to be swapped by the guest: the guest leaves it alone
  // here, which spares every rule the same double paging.
  Bytes given = take_evenly(most, resident_.cache, paged_.cache);
  const Bytes swapped = take(resident_.cold, std::min(most - given, swap_size_ - guest_swapped()));
  swapped_cold_ += swapped;
  swap_out_total_ += swapped;
  given += swapped;
  balloon_ += given;
  return given;
}

void Guest::take_back(Bytes bytes) { balloon_ -= std::min(bytes, balloon_); }

Guest::Evicted Guest::evict(Bytes bytes, double blind) {
  Evicted evicted;
  bytes = std::clamp(bytes, 0.0, resident_.total());
  const Bytes dropped = take(resident_.zero, bytes);
  bytes -= dropped;
  const Held before = resident_;
  Bytes rest = bytes;
  rest -=
      take_evenly(bytes * blind, resident_.hot, resident_.cold, resident_.cache, resident_.stale);
  rest -= take_evenly(rest, resident_.cold, resident_.cache, resident_.stale);
  take(resident_.hot, rest);
  paged_.hot += before.hot - resident_.hot;
  paged_.cold += before.cold - resident_.cold;
  paged_.cache += before.cache - resident_.cache;
  paged_.stale += before.stale - resident_.stale;
  evicted.stored = before.total() - resident_.total();
  evicted.frames = dropped + evicted.stored;
  return evicted;
}

Bytes Guest::bring_back(Bytes bytes) {
  const auto back = [&](Bytes& from, Bytes& to) {
    const Bytes moved = take(from, bytes);
    to += moved;
    bytes -= moved;
    return moved;
  };
  Bytes brought = back(paged_.hot, resident_.hot);
  brought += back(paged_.cold, resident_.cold);
  brought += back(paged_.cache, resident_.cache);
  return brought + back(paged_.stale, resident_.stale);
}

}  // namespace ballast::simulator::fluid
