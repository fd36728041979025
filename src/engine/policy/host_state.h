// HostState: how short of memory the host is, and what may be done about it. Pure.
//
//   state   entered when free memory falls below   what it allows
//   high    –                                      nothing is taken
//   clear   clear (ESXi 6: 100 % of minFree)       nothing is taken
//   soft    soft  (64 %)                           balloons; paging where ballooning is impossible
//   hard    hard  (32 %)                           compression and swap, down to the targets
//   low     low   (16 %)                           and every VM above its target waits
//
// A fall may cross several states at once. A rise goes one state at a time, and only when free
// memory has reached the threshold above the state's own. (ESX asks for "significantly" more and
// does not publish its margin; with a quarter of the gap a 400 MB host changed its state 50 times a
// second while it paged.)
//
// The set of 2002 has no clear state: its threshold is that of soft, so that a fall goes past it,
// and next_state() passes through it on the way up. Whoever uses the states need not know.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "model/options.h"

namespace ballast::engine {

enum class HostState : uint8_t { kHigh, kClear, kSoft, kHard, kLow };
inline constexpr size_t kHostStates = 5;

std::string_view name_of(HostState state);

// ESX's minFree: 6 % of the first 4 GB, 4 % up to 12 GB, 2 % up to 28 GB, 1 % of the rest; or
// percent of everything when `percent` > 0 (Mem.MemMinFreePct). Rounded down once, to the byte.
uint64_t min_free_bytes(uint64_t memory_bytes, uint32_t percent);

// Free bytes, all counted above what is kept for reclaim itself (`floor`).
struct Thresholds {
  // Falling below enter[state] enters that state; enter[kHigh] is where "plenty" begins and is
  // never compared on the way down.
  std::array<uint64_t, kHostStates> enter{};
  // Rising to leave[state] leaves it for the state above; the maximum of uint64_t for kHigh.
  std::array<uint64_t, kHostStates> leave{};

  uint64_t enter_of(HostState state) const { return enter[static_cast<size_t>(state)]; }
  uint64_t leave_of(HostState state) const { return leave[static_cast<size_t>(state)]; }
};
// `memory_bytes` is what percentages are of; every threshold lies `floor_bytes` higher.
// `min_free_percent` (Mem.MemMinFreePct) means nothing to kOsdi02, whose percentages are fixed.
Thresholds make_thresholds(ThresholdSet set, uint64_t memory_bytes, uint32_t min_free_percent,
                           uint64_t floor_bytes);

// A state whose threshold equals that of the state below it is never returned.
HostState next_state(HostState now, uint64_t free_bytes, const Thresholds& thresholds);

}  // namespace ballast::engine
