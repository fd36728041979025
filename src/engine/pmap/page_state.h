// PageState: where is the true copy of a guest page? The one enum of Ballast; docs/page-states.md
// tells its story and a test compares the two.
//
// Work in flight (a write to swap, a read from it, a page in a buffer) is never a state: until it
// is done the true copy is where the state says, and losing the daemon loses nothing.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ballast::engine {

enum class PageState : uint8_t {
  kUntouched =
      0,  // nowhere, reads as zero; first touch ends it. Zero bits, so that a fresh table is right.
  kResident = 1,  // RAM file; reclaim seals it, a guest's discard ends it
  kSealed = 2,    // RAM file, writes trap; a write makes it Resident, eviction takes it to a store
  kZero = 3,      // nowhere, known zero (dropped by reclaim); a touch ends it
  kCompressed = 4,  // the VM's compression cache; a touch or the way to swap ends it
  kSwapped = 5,     // the VM's swap file, checksummed; a touch ends it
  kBallooned = 6,   // nowhere, the guest gave it up (balloon, free-page report); a touch ends it
  kLost = 7,        // nowhere readable: the VM is frozen and reported; a retried read may end it
  kShared = 8,      // a frame of the salt group's pool, mapped copy-on-write; a write ends it
  kLoose = 9,       // what the guest has mapped there: its own frame, a pool's, or a private copy
};

inline constexpr size_t kPageStates = 10;

constexpr std::string_view name_of(PageState state) {
  constexpr std::array<std::string_view, kPageStates> kNames = {
      "Untouched", "Resident",  "Sealed", "Zero",   "Compressed",
      "Swapped",   "Ballooned", "Lost",   "Shared", "Loose"};
  return kNames[static_cast<size_t>(state)];
}

// Whether the page's true copy is a frame in the RAM file, charged to the ledger.
constexpr bool has_frame(PageState state) {
  return state == PageState::kResident || state == PageState::kSealed;
}

// kMayFollow[from] holds bit `to` where from → to is allowed. A state may always be stored again
// (payload change).
constexpr uint16_t states(std::initializer_list<PageState> list) {
  uint16_t bits = 0;
  for (const PageState state : list)
    bits = static_cast<uint16_t>(bits | (1u << static_cast<unsigned>(state)));
  return bits;
}
inline constexpr std::array<uint16_t, kPageStates> kMayFollow = {
    /* Untouched  */ states({PageState::kResident, PageState::kBallooned}),
    /* Resident   */ states({PageState::kSealed, PageState::kBallooned}),
    /* Sealed     */
    states({PageState::kResident, PageState::kZero, PageState::kCompressed, PageState::kSwapped,
            PageState::kBallooned, PageState::kLoose}),
    /* Zero       */ states({PageState::kResident, PageState::kBallooned}),
    /* Compressed */
    states({PageState::kResident, PageState::kSwapped, PageState::kBallooned, PageState::kLost}),
    /* Swapped    */
    states({PageState::kResident, PageState::kSealed, PageState::kBallooned, PageState::kLost}),
    /* Ballooned  */ states({PageState::kResident}),
    /* Lost       */ states({PageState::kSwapped, PageState::kBallooned, PageState::kResident}),
    /* Shared     */ states({PageState::kLoose}),
    /* Loose      */ states({PageState::kShared, PageState::kResident}),
};

// Whether the page may be mapped to a frame of the share pool.
constexpr bool is_away(PageState state) {
  return state == PageState::kShared || state == PageState::kLoose;
}

constexpr bool may_follow(PageState from, PageState to) {
  return from == to ||
         ((kMayFollow[static_cast<size_t>(from)] >> static_cast<unsigned>(to)) & 1) != 0;
}

}  // namespace ballast::engine
