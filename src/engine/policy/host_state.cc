#include "engine/policy/host_state.h"

#include <algorithm>

#include "base/check.h"

namespace ballast::engine {
namespace {

constexpr uint64_t kMost = ~uint64_t{0};

uint64_t saturating_add(uint64_t a, uint64_t b) { return a > kMost - b ? kMost : a + b; }

// Rounded down; saturates.
uint64_t percent_of(uint64_t bytes, uint64_t percent) {
  if (percent > 0 && bytes / 100 > kMost / percent) return kMost;
  return saturating_add(bytes / 100 * percent, bytes % 100 * percent / 100);
}

HostState deeper(HostState state) { return static_cast<HostState>(static_cast<int>(state) + 1); }
HostState higher(HostState state) { return static_cast<HostState>(static_cast<int>(state) - 1); }

bool exists(HostState state, const Thresholds& thresholds) {
  return state == HostState::kHigh || state == HostState::kLow ||
         thresholds.enter_of(state) != thresholds.enter_of(deeper(state));
}

}  // namespace

std::string_view name_of(HostState state) {
  switch (state) {
    case HostState::kHigh:
      return "high";
    case HostState::kClear:
      return "clear";
    case HostState::kSoft:
      return "soft";
    case HostState::kHard:
      return "hard";
    case HostState::kLow:
      return "low";
  }
  BALLAST_CHECK(false);
}

uint64_t min_free_bytes(uint64_t memory_bytes, uint32_t percent) {
  if (percent > 0) return percent_of(memory_bytes, percent);
  constexpr uint64_t kGb = uint64_t{1} << 30;
  struct Step {
    uint64_t from, to, percent;
  };
  constexpr Step kScale[] = {
      {0, 4 * kGb, 6}, {4 * kGb, 12 * kGb, 4}, {12 * kGb, 28 * kGb, 2}, {28 * kGb, kMost, 1}};
  uint64_t bytes = 0;
  uint64_t hundredths = 0;
  for (const Step& step : kScale) {
    if (memory_bytes <= step.from) break;
    const uint64_t part = std::min(memory_bytes, step.to) - step.from;
    bytes += part / 100 * step.percent;
    hundredths += part % 100 * step.percent;
  }
  return bytes + hundredths / 100;
}

Thresholds make_thresholds(ThresholdSet set, uint64_t memory_bytes, uint32_t min_free_percent,
                           uint64_t floor_bytes) {
  using Percents = std::array<uint64_t, kHostStates>;
  const bool esxi6 = set == ThresholdSet::kEsxi6;
  const Percents percents = esxi6 ? Percents{400, 100, 64, 32, 16} : Percents{6, 4, 4, 2, 1};
  const uint64_t base = esxi6 ? min_free_bytes(memory_bytes, min_free_percent) : memory_bytes;

  Thresholds thresholds;
  for (size_t i = 0; i < kHostStates; ++i) {
    thresholds.enter[i] = saturating_add(floor_bytes, percent_of(base, percents[i]));
  }
  thresholds.leave.front() = kMost;
  uint64_t next_above = thresholds.enter.front();  // the nearest higher threshold
  for (size_t i = 1; i < kHostStates; ++i) {
    const uint64_t enter = thresholds.enter[i];
    if (enter != thresholds.enter[i - 1]) next_above = thresholds.enter[i - 1];
    thresholds.leave[i] = next_above;
  }
  return thresholds;
}

HostState next_state(HostState now, uint64_t free_bytes, const Thresholds& thresholds) {
  HostState next = now;
  while (next != HostState::kLow && free_bytes < thresholds.enter_of(deeper(next))) {
    next = deeper(next);
  }
  const bool rises =
      next == now && now != HostState::kHigh && free_bytes >= thresholds.leave_of(now);
  if (rises) next = higher(next);
  while (!exists(next, thresholds)) next = higher(next);
  return next;
}

}  // namespace ballast::engine
