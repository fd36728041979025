#include "engine/swap/slot_map.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <set>

namespace ballast::engine {
namespace {

TEST(SlotMap, AllocatesWhatLiesAheadInOneRun) {
  SlotMap slots(200);
  const SlotRun first = slots.allocate(16);
  EXPECT_EQ(first.first, SwapSlot(0));
  EXPECT_EQ(first.count, 16u);
  for (uint32_t i = 0; i < 16; ++i) slots.release(SwapSlot(i));
  // Next-fit: what was just freed is not reused at once.
  EXPECT_EQ(slots.allocate(16).first, SwapSlot(16));
  EXPECT_EQ(slots.high_water(), 32u);
}

TEST(SlotMap, WrapsAroundAndStopsAtTheEnd) {
  SlotMap slots(70);
  EXPECT_EQ(slots.allocate(60).count, 60u);
  EXPECT_EQ(slots.allocate(16).count, 10u);  // up to the end only
  EXPECT_EQ(slots.free_count(), 0u);
  EXPECT_EQ(slots.allocate(1).count, 0u);
  slots.release(SwapSlot(3));
  slots.release(SwapSlot(5));
  const SlotRun run = slots.allocate(2);
  EXPECT_EQ(run.first, SwapSlot(3));
  EXPECT_EQ(run.count, 1u);
  EXPECT_EQ(slots.allocate(2).first, SwapSlot(5));
}

TEST(SlotMap, NoSlotsAtAll) {
  SlotMap slots(0);
  EXPECT_EQ(slots.allocate(1).count, 0u);
  EXPECT_FALSE(slots.claim(SwapSlot(0)));
}

TEST(SlotMap, ClaimRefusesOutOfRangeAndTwice) {
  SlotMap slots(65);
  EXPECT_TRUE(slots.claim(SwapSlot(64)));
  EXPECT_FALSE(slots.claim(SwapSlot(64)));
  EXPECT_FALSE(slots.claim(SwapSlot(65)));
  EXPECT_FALSE(slots.claim(SwapSlot(~0u)));
  EXPECT_EQ(slots.free_count(), 64u);
  EXPECT_EQ(slots.high_water(), 65u);
}

TEST(SlotMapDeathTest, ReleasingAFreeSlotIsABug) {
  SlotMap slots(8);
  EXPECT_DEATH(slots.release(SwapSlot(1)), "slot 1");
  EXPECT_DEATH(slots.release(SwapSlot(8)), "slot 8");
}

RC_GTEST_PROP(SlotMapProperty, BehavesLikeASet, ()) {
  const auto size = *rc::gen::inRange<uint32_t>(1, 300);
  const auto steps = *rc::gen::container<std::vector<std::pair<int, uint32_t>>>(
      rc::gen::pair(rc::gen::inRange(0, 8), rc::gen::inRange<uint32_t>(0, 320)));
  SlotMap slots(size);
  std::set<uint32_t> taken;
  uint32_t high = 0;
  for (const auto& [what, number] : steps) {
    if (what < 4) {
      const SlotRun run = slots.allocate(number % 40);
      RC_ASSERT(run.count <= number % 40);
      RC_ASSERT((run.count == 0) == (taken.size() == size || number % 40 == 0));
      for (uint32_t i = 0; i < run.count; ++i) {
        RC_ASSERT((run.first + i).raw() < size);
        RC_ASSERT(taken.insert((run.first + i).raw()).second);
      }
      // A run is short only because something ends it.
      if (run.count > 0 && run.count < number % 40) {
        const uint32_t end = run.first.raw() + run.count;
        RC_ASSERT(end == size || taken.count(end) == 1);
      }
    } else if (what < 7 && !taken.empty()) {
      auto it = taken.lower_bound(number % size);
      if (it == taken.end()) it = taken.begin();
      slots.release(SwapSlot(*it));
      taken.erase(it);
    } else {
      const bool fits = number < size && taken.count(number) == 0;
      RC_ASSERT(slots.claim(SwapSlot(number)) == fits);
      if (fits) taken.insert(number);
    }
    if (!taken.empty()) high = std::max(high, *taken.rbegin() + 1);
    RC_ASSERT(slots.free_count() == size - taken.size());
    RC_ASSERT(slots.high_water() == high);
  }
  for (uint32_t slot = 0; slot < size; ++slot) {
    RC_ASSERT(slots.taken(SwapSlot(slot)) == (taken.count(slot) == 1));
  }
}

}  // namespace
}  // namespace ballast::engine
