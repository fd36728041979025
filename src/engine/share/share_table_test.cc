#include "engine/share/share_table.h"

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <thread>
#include <utility>

#include "base/random.h"

namespace ballast::engine {
namespace {

using Kind = ShareTable::Match::Kind;

PageHash hash_of(uint64_t number) {
  Random random(number);
  const uint64_t low = random.next();
  return {low, random.next()};
}

TEST(ShareTable, AnUnknownContentMakesItsPageTheHint) {
  ShareTable table(4096, 8);
  EXPECT_EQ(table.find_or_hint(hash_of(1), {3, PageIndex(7)}).kind, Kind::kNone);
  const auto match = table.find_or_hint(hash_of(1), {4, PageIndex(8)});
  EXPECT_EQ(match.kind, Kind::kHint);
  EXPECT_EQ(match.hint, (ShareTable::Owner{3, PageIndex(7)}));
  EXPECT_EQ(table.hints(), 1u);
  EXPECT_EQ(table.hints_of(3), 1u);
  EXPECT_EQ(table.hints_of(4), 0u);
}

TEST(ShareTable, AFrameReplacesTheHintAndOnlyItsOwnForgetRemovesIt) {
  ShareTable table(4096, 8);
  table.find_or_hint(hash_of(1), {3, PageIndex(7)});
  table.put_frame(hash_of(1), FrameIndex(99));
  EXPECT_EQ(table.hints(), 0u);
  table.forget_hint(hash_of(1), {3, PageIndex(7)});
  table.forget_frame(hash_of(1), FrameIndex(98));
  const auto match = table.find(hash_of(1));
  EXPECT_EQ(match.kind, Kind::kFrame);
  EXPECT_EQ(match.frame, FrameIndex(99));
  table.forget_frame(hash_of(1), FrameIndex(99));
  EXPECT_EQ(table.find(hash_of(1)).kind, Kind::kNone);
}

TEST(ShareTable, TheLargestNumbersSurvive) {
  ShareTable table(4096, ShareTable::kMembersMax);
  const ShareTable::Owner last{ShareTable::kMembersMax - 1, PageIndex(UINT32_MAX)};
  table.find_or_hint({~uint64_t{0}, ~uint64_t{0}}, last);
  EXPECT_EQ(table.find({~uint64_t{0}, ~uint64_t{0}}).hint, last);
  table.put_frame({0, 0}, FrameIndex(UINT32_MAX));
  EXPECT_EQ(table.find({0, 0}).frame, FrameIndex(UINT32_MAX));
  table.forget_member(last.member);
  EXPECT_EQ(table.find({~uint64_t{0}, ~uint64_t{0}}).kind, Kind::kNone);
  EXPECT_EQ(table.find({0, 0}).kind, Kind::kFrame);
}

// Contents whose hashes meet in 64 bits are told apart; a false match poisons nobody.
TEST(ShareTable, HashesThatMeetInOneHalfAreStillTwo) {
  ShareTable table(4096, 8);
  for (uint64_t i = 0; i < 6; ++i) {
    table.put_frame({42, i << 53}, FrameIndex(static_cast<uint32_t>(i)));
  }
  for (uint64_t i = 0; i < 6; ++i) {
    EXPECT_EQ(table.find({42, i << 53}).frame, FrameIndex(static_cast<uint32_t>(i)));
  }
  EXPECT_EQ(table.find({42, uint64_t{9} << 53}).kind, Kind::kNone);
}

TEST(ShareTable, AFullSetForgetsHintsBeforeFrames) {
  ShareTable table(0, 1);  // the smallest: 64 sets
  for (uint32_t i = 0; i < 4; ++i) table.put_frame({0, uint64_t{i} << 53}, FrameIndex(i));
  for (uint32_t i = 4; i < 200; ++i) table.find_or_hint({0, uint64_t{i} << 53}, {0, PageIndex(i)});
  for (uint32_t i = 0; i < 4; ++i) {
    EXPECT_EQ(table.find({0, uint64_t{i} << 53}).frame, FrameIndex(i));
  }
  EXPECT_EQ(table.hints(), 4u);
}

TEST(ShareTable, CostsSixteenBytesForAPage) {
  const ShareTable table(1 << 20, 1);
  EXPECT_EQ(table.bytes(), uint64_t{16} << 20);
}

TEST(ShareTable, GrowsAndShrinksWithItsVms) {
  ShareTable table(1 << 12, 1);
  for (uint32_t i = 0; i < 1000; ++i) table.put_frame(hash_of(i), FrameIndex(i));
  table.resize(1 << 16, 1);
  for (uint32_t i = 0; i < 1000; ++i) {
    ASSERT_EQ(table.find(hash_of(i)).kind, Kind::kFrame) << i;
    ASSERT_EQ(table.find(hash_of(i)).frame, FrameIndex(i));
  }
  table.resize(0, 1);
  uint32_t left = 0;
  for (uint32_t i = 0; i < 1000; ++i) left += table.find(hash_of(i)).kind == Kind::kFrame ? 1 : 0;
  EXPECT_GT(left, 300u);
  EXPECT_LE(left, 512u);
}

// The model knows what was said last of every content; the table may know less, never otherwise.
TEST(ShareTable, NeverSaysWhatWasNotSaid) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    Random random(seed);
    ShareTable table(random.below(2) == 0 ? 512 : 1 << 14, 5);
    std::map<uint32_t, std::optional<FrameIndex>> frames;
    std::map<uint32_t, ShareTable::Owner> hints;
    for (int step = 0; step < 20'000; ++step) {
      const uint32_t content = random.below(3000);
      const PageHash hash = hash_of(content);
      const ShareTable::Owner owner{random.below(5), PageIndex(random.below(1000))};
      switch (random.below(6)) {
        case 0:
        case 1: {
          const auto match = table.find_or_hint(hash, owner);
          if (match.kind == Kind::kFrame) {
            ASSERT_EQ(frames[content], match.frame);
          } else if (match.kind == Kind::kHint) {
            ASSERT_TRUE(hints.contains(content));
            ASSERT_EQ(hints[content], match.hint);
          } else {
            hints[content] = owner;
            frames.erase(content);
          }
          break;
        }
        case 2:
          table.put_frame(hash, FrameIndex(static_cast<uint32_t>(step)));
          frames[content] = FrameIndex(static_cast<uint32_t>(step));
          hints.erase(content);
          break;
        case 3:
          if (hints.contains(content)) table.forget_hint(hash, hints[content]);
          hints.erase(content);
          break;
        case 4:
          if (frames.contains(content) && frames[content]) {
            table.forget_frame(hash, *frames[content]);
            ASSERT_NE(table.find(hash).kind, Kind::kFrame);
          }
          frames.erase(content);
          break;
        default:
          if (random.below(500) == 0) {
            table.forget_member(owner.member);
            std::erase_if(hints,
                          [&](const auto& one) { return one.second.member == owner.member; });
          } else if (random.below(500) == 0) {
            table.resize(random.below(1 << 14), 5);
          }
      }
    }
    uint64_t of_members = 0;
    for (uint32_t member = 0; member < 5; ++member) of_members += table.hints_of(member);
    ASSERT_EQ(of_members, table.hints()) << "seed " << seed;
  }
}

TEST(ShareTable, ManyThreadsAtOnce) {
  ShareTable table(1 << 12, 4);
  std::vector<std::thread> threads;
  for (uint32_t member = 0; member < 4; ++member) {
    threads.emplace_back([&table, member] {
      Random random(member);
      for (int step = 0; step < 20'000; ++step) {
        const PageHash hash = hash_of(random.below(4000));
        const ShareTable::Owner owner{member, PageIndex(random.below(4000))};
        const auto match = table.find_or_hint(hash, owner);
        if (match.kind == Kind::kHint) table.put_frame(hash, FrameIndex(random.below(4000)));
        if (match.kind == Kind::kFrame) table.forget_frame(hash, match.frame);
      }
    });
  }
  for (int i = 0; i < 20; ++i) table.resize(i % 2 == 0 ? 1 << 10 : 1 << 13, 4);
  for (std::thread& thread : threads) thread.join();
  uint64_t hints = 0;
  for (uint64_t i = 0; i < 4000; ++i) hints += table.find(hash_of(i)).kind == Kind::kHint ? 1 : 0;
  EXPECT_EQ(table.hints(), hints);
}

}  // namespace
}  // namespace ballast::engine
