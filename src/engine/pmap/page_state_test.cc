#include "engine/pmap/page_state.h"

#include <gtest/gtest.h>

#include <string>

namespace ballast::engine {
namespace {

// One row per state that is left, one letter per state that follows, in the enum's order:
// x allowed, . forbidden, = the same state (always allowed: payloads change).
constexpr std::array<std::string_view, kPageStates> kTable = {
    //                URSZCWBLHO  (W = Swapped, H = Shared, O = Loose)
    /* Untouched  */ "=x....x...",
    /* Resident   */ ".=x...x...",
    /* Sealed     */ ".x=xxxx..x",
    /* Zero       */ ".x.=..x...",
    /* Compressed */ ".x..=xxx..",
    /* Swapped    */ ".xx..=xx..",
    /* Ballooned  */ ".x....=...",
    /* Lost       */ ".x...xx=..",
    /* Shared     */ "........=x",
    /* Loose      */ ".x......x=",
};

TEST(PageState, EveryPairIsAsTheTableSays) {
  for (size_t from = 0; from < kPageStates; ++from) {
    for (size_t to = 0; to < kPageStates; ++to) {
      const auto a = static_cast<PageState>(from);
      const auto b = static_cast<PageState>(to);
      EXPECT_EQ(may_follow(a, b), kTable[from][to] != '.') << name_of(a) << " → " << name_of(b);
      EXPECT_EQ(kTable[from][to] == '=', a == b);
    }
  }
}

TEST(PageState, FramesAreInResidentAndSealedOnly) {
  for (size_t state = 0; state < kPageStates; ++state) {
    const auto it = static_cast<PageState>(state);
    EXPECT_EQ(has_frame(it), it == PageState::kResident || it == PageState::kSealed) << name_of(it);
  }
}

// Only a page whose writes trap may leave the RAM file for a store.
TEST(PageState, StoresAreEnteredFromSealedOrFromAnotherStore) {
  for (size_t from = 0; from < kPageStates; ++from) {
    const auto it = static_cast<PageState>(from);
    if (it == PageState::kSealed) continue;
    EXPECT_EQ(may_follow(it, PageState::kZero), it == PageState::kZero) << name_of(it);
    EXPECT_EQ(may_follow(it, PageState::kCompressed), it == PageState::kCompressed) << name_of(it);
    EXPECT_EQ(may_follow(it, PageState::kSwapped),
              it == PageState::kCompressed || it == PageState::kSwapped || it == PageState::kLost)
        << name_of(it);
  }
}

TEST(PageState, NamesAreDistinct) {
  for (size_t a = 0; a < kPageStates; ++a) {
    for (size_t b = 0; b < a; ++b) {
      EXPECT_NE(name_of(static_cast<PageState>(a)), name_of(static_cast<PageState>(b)));
    }
  }
}

}  // namespace
}  // namespace ballast::engine
