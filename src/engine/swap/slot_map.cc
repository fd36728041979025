#include "engine/swap/slot_map.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace ballast::engine {

SlotMap::SlotMap(uint32_t slots) : slots_(slots), free_(slots), words_((slots + 63) / 64, 0) {}

void SlotMap::grow(uint32_t slots) {
  BALLAST_CHECK_THAT(slots >= slots_, "{} to {}", slots_, slots);
  free_ += slots - slots_;
  slots_ = slots;
  words_.resize((slots + 63) / 64, 0);
}

void SlotMap::take(uint32_t slot) {
  words_[slot / 64] |= uint64_t{1} << (slot % 64);
  --free_;
  high_water_ = std::max(high_water_, slot + 1);
}

SlotRun SlotMap::allocate(uint32_t wanted) {
  if (free_ == 0 || wanted == 0) return {};
  // Find the next free slot, skipping full words; at most once around.
  uint32_t at = next_ < slots_ ? next_ : 0;
  while (taken(SwapSlot(at))) {
    const uint64_t rest = ~words_[at / 64] >> (at % 64);
    at = rest != 0 ? at + static_cast<uint32_t>(std::countr_zero(rest)) : (at / 64 + 1) * 64;
    if (at >= slots_) at = 0;
  }
  SlotRun run{SwapSlot(at), 0};
  while (run.count < wanted && at < slots_ && !taken(SwapSlot(at))) {
    take(at++);
    ++run.count;
  }
  next_ = at;
  return run;
}

bool SlotMap::claim(SwapSlot slot) {
  if (slot.raw() >= slots_ || taken(slot)) return false;
  take(slot.raw());
  return true;
}

void SlotMap::release(SwapSlot slot) {
  BALLAST_CHECK_THAT(slot.raw() < slots_ && taken(slot), "slot {}", slot.raw());
  words_[slot.raw() / 64] &= ~(uint64_t{1} << (slot.raw() % 64));
  ++free_;
}

}  // namespace ballast::engine
