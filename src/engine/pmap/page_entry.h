// PageEntry: one 64-bit word that says what one guest page is and where its only true copy lives.
//
// A plain value; the table of them is engine/pmap/tables.h. Stored with single 8-byte stores, so
// that a daemon that dies between two instructions leaves either the old or the new word.
//
//   bits  0..3   state
//   bit   4      in flight: a swap write of this page's bytes, or a change of its mapping (Loose),
//   is under way (means nothing to the next daemon) bits  5..17  Compressed: length of the
//   compressed bytes, 1..2048 bits 24..63 Compressed: byte offset of the slot in the arena
//                Swapped, Lost: swap slot + 1 (a Lost page without slot: 0)
//                Resident, Sealed: swap slot + 1 of a copy that may still be right (checksum
//                decides), or 0
//                Shared, Loose: frame of the share pool + 1
//
// Cost: 8 bytes per 4 KiB page, 0.2 % of guest memory.
#pragma once

#include <cstdint>
#include <optional>

#include "base/units.h"
#include "engine/pmap/page_state.h"

namespace ballast::engine {

class PageEntry {
 public:
  constexpr PageEntry() = default;
  constexpr explicit PageEntry(uint64_t word) : word_(word) {}

  static constexpr PageEntry plain(PageState state) {
    return PageEntry(static_cast<uint64_t>(state));
  }
  static constexpr PageEntry compressed(uint64_t arena_offset, uint32_t length) {
    return PageEntry(static_cast<uint64_t>(PageState::kCompressed) | uint64_t{length} << 5 |
                     arena_offset << 24);
  }
  // State with a swap slot: Swapped, Lost, or a Resident/Sealed page whose old copy is kept.
  static constexpr PageEntry with_slot(PageState state, SwapSlot slot) {
    return PageEntry(static_cast<uint64_t>(state) | (uint64_t{slot.raw()} + 1) << 24);
  }

  // Shared or Loose: holds one reference to the frame.
  static constexpr PageEntry away(PageState state, FrameIndex frame) {
    return PageEntry(static_cast<uint64_t>(state) | (uint64_t{frame.raw()} + 1) << 24);
  }

  constexpr uint64_t word() const { return word_; }
  constexpr PageState state() const { return static_cast<PageState>(word_ & 0xf); }
  constexpr bool in_flight() const { return (word_ & kInFlight) != 0; }
  constexpr uint32_t compressed_length() const { return (word_ >> 5) & 0x1fff; }
  constexpr uint64_t arena_offset() const { return word_ >> 24; }
  constexpr std::optional<SwapSlot> slot() const {
    if (state() == PageState::kCompressed || is_away(state()) || (word_ >> 24) == 0) {
      return std::nullopt;
    }
    return SwapSlot(static_cast<uint32_t>((word_ >> 24) - 1));
  }
  constexpr FrameIndex frame() const {
    return FrameIndex(static_cast<uint32_t>((word_ >> 24) - 1));
  }

  constexpr PageEntry with_in_flight(bool in_flight) const {
    return PageEntry(in_flight ? word_ | kInFlight : word_ & ~kInFlight);
  }
  // The same page in another state, keeping the in-flight mark and, between states that may hold
  // one, the slot.
  constexpr PageEntry moved_to(PageState state) const {
    return PageEntry((word_ & ~uint64_t{0xf}) | static_cast<uint64_t>(state));
  }
  constexpr bool operator==(const PageEntry&) const = default;

 private:
  static constexpr uint64_t kInFlight = 1 << 4;
  uint64_t word_ = 0;
};
static_assert(sizeof(PageEntry) == 8);

}  // namespace ballast::engine
