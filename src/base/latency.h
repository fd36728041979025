// LatencyHistogram: how long something took, in buckets an eighth of a power of two wide. One
// thread records, any reads. 4 KiB; no allocation.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

#include "base/units.h"

namespace ballast {

class LatencyHistogram {
 public:
  void record(Nanoseconds took, uint64_t times = 1) {
    auto& bucket = buckets_[index_of(took)];
    bucket.store(bucket.load(std::memory_order_relaxed) + times, std::memory_order_relaxed);
  }
  // The upper edge of the bucket that holds this part (0..1000 ‰) of all; 0 when nothing was
  // recorded.
  Nanoseconds quantile(uint32_t permille) const {
    uint64_t total = 0;
    for (const auto& bucket : buckets_) total += bucket.load(std::memory_order_relaxed);
    uint64_t left = (total * permille + 999) / 1000;
    for (size_t index = 0; index < buckets_.size() && total > 0; ++index) {
      const uint64_t count = buckets_[index].load(std::memory_order_relaxed);
      if (count >= left && count > 0) return upper_edge(index);
      left -= count;
    }
    return 0;
  }

 private:
  static constexpr unsigned kStepBits = 3;
  static size_t index_of(Nanoseconds took) {
    if (took < (1u << kStepBits)) return static_cast<size_t>(took);
    const auto power = static_cast<unsigned>(std::bit_width(took)) - 1;
    return ((size_t{power} - kStepBits + 1) << kStepBits) +
           ((took >> (power - kStepBits)) & ((1u << kStepBits) - 1));
  }
  static Nanoseconds upper_edge(size_t index) {
    if (index < (1u << kStepBits)) return index;
    const size_t power = (index >> kStepBits) + kStepBits - 1;
    const uint64_t step = index & ((1u << kStepBits) - 1);
    return ((uint64_t{1} << kStepBits) + step + 1) << (power - kStepBits);
  }

  std::array<std::atomic<uint64_t>, 62 << kStepBits> buckets_{};
};

}  // namespace ballast
