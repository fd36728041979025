// Allocation: what an administrator grants one VM: min, limit, shares, how far it may be ballooned.
// Given at start, changed live by `ballast set`. Plain data and its rules; pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace ballast {

// ESX's presets are 5, 10 and 20 shares per MB of configured memory.
enum class ShareLevel : uint8_t { kLow, kNormal, kHigh, kCustom };

struct Shares {
  ShareLevel level = ShareLevel::kNormal;
  uint32_t custom = 0;  // with kCustom: 1 … kSharesMax
  bool operator==(const Shares&) const = default;
};
inline constexpr uint32_t kSharesMax = 100'000'000;

// The number that counts against other VMs' numbers.
uint64_t share_count(const Shares& shares, uint64_t configured_bytes);
// "low", "normal", "high", or a number from 1. Refuses the rest, saying what is allowed.
Result<Shares> parse_shares(std::string_view text);
std::string format_shares(const Shares& shares);  // what parse_shares() takes

inline constexpr uint64_t kNoLimit = ~uint64_t{0};
inline constexpr uint64_t kDefaultBalloonMax = ~uint64_t{0};  // Mem.CtlMaxPercent of configured

struct Allocation {
  uint64_t min_bytes = 0;           // guaranteed (ESX: reservation)
  uint64_t limit_bytes = kNoLimit;  // never more than this, however much is free
  Shares shares;
  uint64_t balloon_max_bytes = kDefaultBalloonMax;  // sched.mem.maxmemctl
  bool operator==(const Allocation&) const = default;
};

// What `ballast set` changes; what is absent stays as it is.
struct AllocationChange {
  std::optional<uint64_t> min_bytes;
  std::optional<uint64_t> limit_bytes;  // kNoLimit: none any more
  std::optional<Shares> shares;
  std::optional<uint64_t> balloon_max_bytes;  // kDefaultBalloonMax: the host's percentage again
  bool operator==(const AllocationChange&) const = default;
};
Allocation apply(Allocation allocation, const AllocationChange& change);

// The most guest memory the VM may ever hold.
constexpr uint64_t max_bytes(const Allocation& allocation, uint64_t configured_bytes) {
  return allocation.limit_bytes < configured_bytes ? allocation.limit_bytes : configured_bytes;
}
// How far the VM may be ballooned, with Mem.CtlMaxPercent where it has no maximum of its own.
uint64_t balloon_max_bytes(const Allocation& allocation, uint64_t configured_bytes,
                           uint32_t ctl_max_percent);

// min ≤ limit ≤ …, whole pages, shares > 0. The refusal names the VM, the rule and the numbers.
Status check_allocation(std::string_view vm, const Allocation& allocation,
                        uint64_t configured_bytes);

}  // namespace ballast
