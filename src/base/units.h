// The words everything is counted in: pages of 4 KiB, bytes, instants.
//
// PageIndex is a PPN: a page of one VM's guest-physical memory, counted from 0 across all its RAM
// regions. It never crosses VMs. Bytes are plain uint64_t named *_bytes; sizes cross a boundary
// only through the converters.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace ballast {

inline constexpr size_t kPageBytes = 4096;

// A number that means one thing only. Id − Id is a count; Id + count is an Id; Id + Id does not
// compile.
template <typename Tag, typename Raw>
class StrongId {
 public:
  constexpr StrongId() = default;
  constexpr explicit StrongId(Raw raw) : raw_(raw) {}
  constexpr Raw raw() const { return raw_; }
  constexpr auto operator<=>(const StrongId&) const = default;
  constexpr StrongId operator+(Raw count) const { return StrongId(static_cast<Raw>(raw_ + count)); }
  constexpr Raw operator-(StrongId other) const { return static_cast<Raw>(raw_ - other.raw_); }
  constexpr StrongId& operator++() {
    ++raw_;
    return *this;
  }

 private:
  Raw raw_ = 0;
};

using PageIndex = StrongId<struct PageIndexTag, uint32_t>;  // a PPN; 2^32 pages = 16 TiB
using SwapSlot = StrongId<struct SwapSlotTag, uint32_t>;    // a 4 KiB slot of one VM's swap file
using VmId = StrongId<struct VmIdTag, uint32_t>;

using FrameIndex = StrongId<struct FrameIndexTag, uint32_t>;  // a frame of one share pool (an MPN)

// Consecutive pages of one VM.
struct PageRun {
  PageIndex first;
  uint32_t count = 0;
  constexpr PageIndex end() const { return first + count; }
  constexpr bool contains(PageIndex page) const { return page >= first && page < end(); }
  bool operator==(const PageRun&) const = default;
};

// Consecutive frames of one share pool.
struct FrameRun {
  FrameIndex first;
  uint32_t count = 0;
  constexpr FrameIndex end() const { return first + count; }
  bool operator==(const FrameRun&) const = default;
};

constexpr uint64_t pages_to_bytes(uint64_t pages) { return pages * kPageBytes; }
constexpr uint64_t pages_ceil(uint64_t bytes) { return (bytes + kPageBytes - 1) / kPageBytes; }
constexpr uint64_t pages_floor(uint64_t bytes) { return bytes / kPageBytes; }

// Nanoseconds of a monotonic clock (real or simulated).
using Nanoseconds = uint64_t;
inline constexpr Nanoseconds kMicrosecond = 1000;
inline constexpr Nanoseconds kMillisecond = 1000 * kMicrosecond;
inline constexpr Nanoseconds kSecond = 1000 * kMillisecond;

// "256M", "1G", "4096", "1.5G"; suffixes K M G T (powers of 1024), with or without a trailing B or
// iB. Refuses everything else, naming the text.
Result<uint64_t> parse_size(std::string_view text);

// "256 MB", "1.5 GB", "12 KB": for people. Powers of 1024.
std::string format_size(uint64_t bytes);

}  // namespace ballast
