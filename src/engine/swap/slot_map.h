// SlotMap: which slots of one VM's swap file are taken. Rebuilt from the pmap after a daemon's
// death.
//
// Allocation is next-fit over a bitmap, so that pages written together lie together (read-ahead
// pays) and a failing region of the disk is left behind. One bit per slot.
#pragma once

#include <cstdint>
#include <vector>

#include "base/units.h"

namespace ballast::engine {

struct SlotRun {
  SwapSlot first;
  uint32_t count = 0;
};

class SlotMap {
 public:
  explicit SlotMap(uint32_t slots);

  // The file has become longer. Allocates; not on the fault path.
  void grow(uint32_t slots);
  uint32_t count() const { return slots_; }
  uint32_t free_count() const { return free_; }
  // One past the highest slot ever taken: bounds what the checksum table occupies.
  uint32_t high_water() const { return high_water_; }
  bool taken(SwapSlot slot) const {
    return (words_[slot.raw() / 64] >> (slot.raw() % 64) & 1) != 0;
  }

  // Up to `wanted` consecutive slots: the first free run after the last allocation, perhaps shorter
  // than wanted; count 0 when nothing is free.
  SlotRun allocate(uint32_t wanted);
  // Marks a particular slot (recovery). False if it was taken already.
  [[nodiscard]] bool claim(SwapSlot slot);
  void release(SwapSlot slot);

 private:
  void take(uint32_t slot);

  uint32_t slots_;
  uint32_t free_;
  uint32_t next_ = 0;
  uint32_t high_water_ = 0;
  std::vector<uint64_t> words_;
};

}  // namespace ballast::engine
