#include "model/allocation.h"

#include <charconv>

#include "base/units.h"

namespace ballast {

namespace {
constexpr uint64_t kMebibyte = uint64_t{1} << 20;
constexpr uint64_t kLimitMin = kMebibyte;

// Without rounding, so that two sizes that differ look different: "1536 MB", "4100 KB".
std::string exact_size(uint64_t bytes) {
  constexpr const char* kUnits[] = {"bytes", "KB", "MB", "GB", "TB"};
  size_t unit = 0;
  for (; bytes != 0 && bytes % 1024 == 0 && unit < 4; ++unit) bytes /= 1024;
  return fmt::format("{} {}", bytes, kUnits[unit]);
}

Status check_whole_pages(std::string_view vm, const char* what, uint64_t bytes) {
  if (bytes % kPageBytes == 0) return Done{};
  return Error{fmt::format("{}: a {} of {} bytes is refused: whole pages of {} bytes are needed",
                           vm, what, bytes, kPageBytes)};
}

}  // namespace

uint64_t share_count(const Shares& shares, uint64_t configured_bytes) {
  const uint64_t megabytes = configured_bytes < kMebibyte ? 1 : configured_bytes / kMebibyte;
  switch (shares.level) {
    case ShareLevel::kLow:
      return 5 * megabytes;
    case ShareLevel::kNormal:
      return 10 * megabytes;
    case ShareLevel::kHigh:
      return 20 * megabytes;
    case ShareLevel::kCustom:
      return shares.custom;
  }
  return 10 * megabytes;
}

Result<Shares> parse_shares(std::string_view text) {
  if (text == "low") return Shares{ShareLevel::kLow, 0};
  if (text == "normal") return Shares{ShareLevel::kNormal, 0};
  if (text == "high") return Shares{ShareLevel::kHigh, 0};
  uint32_t number = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (problem == std::errc() && end == text.data() + text.size() && number >= 1 &&
      number <= kSharesMax) {
    return Shares{ShareLevel::kCustom, number};
  }
  return Error{fmt::format(
      "shares '{}' are refused: low, normal, high (5, 10, 20 per MB of the VM's memory) or a "
      "number from 1 to {} is needed",
      text.substr(0, 40), kSharesMax)};
}

std::string format_shares(const Shares& shares) {
  switch (shares.level) {
    case ShareLevel::kLow:
      return "low";
    case ShareLevel::kNormal:
      return "normal";
    case ShareLevel::kHigh:
      return "high";
    case ShareLevel::kCustom:
      return std::to_string(shares.custom);
  }
  return "normal";
}

Allocation apply(Allocation allocation, const AllocationChange& change) {
  allocation.min_bytes = change.min_bytes.value_or(allocation.min_bytes);
  allocation.limit_bytes = change.limit_bytes.value_or(allocation.limit_bytes);
  allocation.shares = change.shares.value_or(allocation.shares);
  allocation.balloon_max_bytes = change.balloon_max_bytes.value_or(allocation.balloon_max_bytes);
  return allocation;
}

uint64_t balloon_max_bytes(const Allocation& allocation, uint64_t configured_bytes,
                           uint32_t ctl_max_percent) {
  const uint64_t most = configured_bytes / 100 * ctl_max_percent / kPageBytes * kPageBytes;
  if (allocation.balloon_max_bytes == kDefaultBalloonMax) return most;
  // 0 % forbids ballooning on the whole host.
  if (ctl_max_percent == 0) return 0;
  return allocation.balloon_max_bytes < configured_bytes ? allocation.balloon_max_bytes
                                                         : configured_bytes;
}

Status check_allocation(std::string_view vm, const Allocation& allocation,
                        uint64_t configured_bytes) {
  const bool is_limited = allocation.limit_bytes != kNoLimit;
  const bool has_balloon_max = allocation.balloon_max_bytes != kDefaultBalloonMax;
  BALLAST_TRY_STATUS(check_whole_pages(vm, "min", allocation.min_bytes));
  if (is_limited) BALLAST_TRY_STATUS(check_whole_pages(vm, "limit", allocation.limit_bytes));
  if (has_balloon_max) {
    BALLAST_TRY_STATUS(check_whole_pages(vm, "balloon maximum", allocation.balloon_max_bytes));
  }
  if (allocation.min_bytes > configured_bytes) {
    return Error{fmt::format("{}: a min of {} exceeds its memory of {}", vm,
                             exact_size(allocation.min_bytes), exact_size(configured_bytes))};
  }
  if (allocation.min_bytes > allocation.limit_bytes) {
    return Error{fmt::format("{}: a min of {} exceeds its limit of {}", vm,
                             exact_size(allocation.min_bytes), exact_size(allocation.limit_bytes))};
  }
  if (allocation.limit_bytes < kLimitMin) {
    return Error{fmt::format("{}: a limit of {} is too small to run in: at least {} are needed", vm,
                             exact_size(allocation.limit_bytes), exact_size(kLimitMin))};
  }
  if (has_balloon_max && allocation.balloon_max_bytes > configured_bytes) {
    return Error{fmt::format("{}: a balloon of up to {} exceeds its memory of {}", vm,
                             exact_size(allocation.balloon_max_bytes),
                             exact_size(configured_bytes))};
  }
  if (allocation.shares.level == ShareLevel::kCustom &&
      (allocation.shares.custom == 0 || allocation.shares.custom > kSharesMax)) {
    return Error{fmt::format("{}: shares of {} are refused: 1 to {} are needed", vm,
                             allocation.shares.custom, kSharesMax)};
  }
  return Done{};
}

}  // namespace ballast
