#include "engine/pmap/page_entry.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "engine/compress/codec.h"

namespace ballast::engine {
namespace {

PageState any_state() { return static_cast<PageState>(*rc::gen::inRange<int>(0, kPageStates)); }

TEST(PageEntry, FreshMemoryIsUntouchedPages) {
  EXPECT_EQ(PageEntry(0).state(), PageState::kUntouched);
  EXPECT_EQ(PageEntry(0), PageEntry::plain(PageState::kUntouched));
  EXPECT_FALSE(PageEntry(0).in_flight());
  EXPECT_FALSE(PageEntry(0).slot());
}

// The layout is shared with the next daemon, perhaps of another build: changing it needs a new mark
// in the tables' header.
TEST(PageEntry, LayoutIsWhatTheNextDaemonReads) {
  EXPECT_EQ(PageEntry::plain(PageState::kSealed).word(), 0x2u);
  EXPECT_EQ(PageEntry::plain(PageState::kResident).with_in_flight(true).word(), 0x11u);
  EXPECT_EQ(PageEntry::with_slot(PageState::kSwapped, SwapSlot(0)).word(), 0x1000005u);
  EXPECT_EQ(PageEntry::with_slot(PageState::kSwapped, SwapSlot(0xabcdef)).word(),
            0xabcdf0000005ull);
  EXPECT_EQ(PageEntry::compressed(0x12340, 2048).word(), 0x12340010004ull);
  EXPECT_EQ(PageEntry::away(PageState::kShared, FrameIndex(1)).word(), 0x2000008u);
}

RC_GTEST_PROP(PageEntryProperty, SlotsComeBack, (uint32_t slot)) {
  for (const PageState state :
       {PageState::kSwapped, PageState::kLost, PageState::kResident, PageState::kSealed}) {
    const PageEntry entry = PageEntry::with_slot(state, SwapSlot(slot));
    RC_ASSERT(entry.state() == state);
    RC_ASSERT(entry.slot() == SwapSlot(slot));
    RC_ASSERT(!entry.in_flight());
  }
}

RC_GTEST_PROP(PageEntryProperty, FramesComeBackAndAreNoSlots, (uint32_t frame)) {
  const PageEntry entry = PageEntry::away(PageState::kShared, FrameIndex(frame));
  RC_ASSERT(entry.frame() == FrameIndex(frame));
  RC_ASSERT(!entry.slot());
  const PageEntry loose = entry.moved_to(PageState::kLoose).with_in_flight(true);
  RC_ASSERT(loose.frame() == FrameIndex(frame) && loose.in_flight() && !loose.slot());
}

RC_GTEST_PROP(PageEntryProperty, ArenaOffsetsAndLengthsComeBack, ()) {
  const auto offset = *rc::gen::inRange<uint64_t>(0, uint64_t{1} << 40);
  const auto length = *rc::gen::inRange<uint32_t>(1, kCompressedBytesMax + 1);
  const PageEntry entry = PageEntry::compressed(offset, length);
  RC_ASSERT(entry.state() == PageState::kCompressed);
  RC_ASSERT(entry.arena_offset() == offset);
  RC_ASSERT(entry.compressed_length() == length);
  RC_ASSERT(!entry.slot());
  const PageEntry marked = entry.with_in_flight(true);
  RC_ASSERT(marked.in_flight() && marked.arena_offset() == offset);
  RC_ASSERT(marked.compressed_length() == length);
  RC_ASSERT(marked.with_in_flight(false) == entry);
}

RC_GTEST_PROP(PageEntryProperty, MovingKeepsSlotAndMark, (uint32_t slot, bool in_flight)) {
  const PageEntry before =
      PageEntry::with_slot(PageState::kSwapped, SwapSlot(slot)).with_in_flight(in_flight);
  const PageEntry after = before.moved_to(PageState::kSealed);
  RC_ASSERT(after.state() == PageState::kSealed);
  RC_ASSERT(after.slot() == SwapSlot(slot));
  RC_ASSERT(after.in_flight() == in_flight);
}

RC_GTEST_PROP(PageEntryProperty, PlainHasNoPayload, ()) {
  const PageState state = any_state();
  RC_ASSERT(PageEntry::plain(state).state() == state);
  RC_ASSERT(!PageEntry::plain(state).slot());
}

}  // namespace
}  // namespace ballast::engine
