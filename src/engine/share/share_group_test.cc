#include "engine/share/share_group.h"

#include <gtest/gtest.h>

#include "engine/share/test_pool.h"

namespace ballast::engine {
namespace {

constexpr uint32_t kFrames = 64;

struct Group {
  Ledger ledger{uint64_t{1} << 20};
  TestPool* pool = new TestPool(kFrames);
  ShareGroup group{"salt:web", std::unique_ptr<machine::SharePool>(pool), ledger, PageHasher(7)};

  FrameIndex share(std::byte value) {
    const FrameRun run = group.allocate(1);
    EXPECT_EQ(run.count, 1u);
    std::memset(group.blank(run.first).data(), static_cast<int>(value), kPageBytes);
    group.publish(run.first, group.hash(group.bytes(run.first)));
    return run.first;
  }
  ShareTable::Match find(std::byte value) {
    std::array<std::byte, kPageBytes> page;
    page.fill(value);
    return group.table().find(group.hash(page));
  }
};

TEST(ShareGroup, AFrameIsChargedUntilItsLastReferenceGoes) {
  Group g;
  const FrameIndex frame = g.share(std::byte{1});
  EXPECT_EQ(g.ledger.consumed(), kPageBytes);
  EXPECT_TRUE(g.group.try_reference(frame));
  g.group.unreference({frame, 1});
  EXPECT_EQ(g.ledger.consumed(), kPageBytes);
  EXPECT_EQ(g.find(std::byte{1}).frame, frame);
  g.group.unreference({frame, 1});
  EXPECT_EQ(g.ledger.consumed(), 0u);
  EXPECT_EQ(g.pool->frames(), 0u);
  EXPECT_EQ(g.find(std::byte{1}).kind, ShareTable::Match::Kind::kNone);
  EXPECT_FALSE(g.group.try_reference(frame));
}

TEST(ShareGroup, FramesThatAreNotPublishedCannotBeHad) {
  Group g;
  const FrameRun run = g.group.allocate(4);
  EXPECT_EQ(run.count, 4u);
  EXPECT_FALSE(g.group.try_reference(run.first));
  g.group.drop(run);
  EXPECT_EQ(g.ledger.consumed(), 0u);
  EXPECT_FALSE(g.group.try_reference(FrameIndex(kFrames + 1)));
}

TEST(ShareGroup, GivesFewerFramesWhenMemoryOrThePoolIsShort) {
  Group g;
  EXPECT_EQ(g.group.allocate(2 * kFrames).count, kFrames);
  EXPECT_EQ(g.group.allocate(1).count, 0u);
  EXPECT_EQ(g.ledger.consumed(), pages_to_bytes(kFrames));

  Ledger small{3 * kPageBytes};
  ShareGroup tight("all", std::make_unique<TestPool>(kFrames), small, PageHasher(7));
  const uint32_t given = tight.allocate(8).count;
  EXPECT_EQ(given, 2u);
  EXPECT_LE(small.consumed(), small.budget());
}

// After a daemon's death the pool's frames wait for the VMs that name them.
TEST(ShareGroup, ClaimsWhatIsThereAndReapsTheRest) {
  auto pool = std::make_unique<TestPool>(kFrames);
  for (const uint32_t frame : {3u, 4u, 9u}) {
    std::memset(pool->frame(FrameIndex(frame)).data(), static_cast<int>(frame), kPageBytes);
  }
  Ledger ledger{uint64_t{1} << 20};
  ShareGroup group("all", std::move(pool), ledger, PageHasher(7));
  EXPECT_EQ(ledger.consumed(), 3 * kPageBytes);
  EXPECT_FALSE(group.claim(FrameIndex(5)));
  EXPECT_FALSE(group.claim(FrameIndex(kFrames)));
  EXPECT_TRUE(group.claim(FrameIndex(3)));
  EXPECT_TRUE(group.claim(FrameIndex(3)));
  EXPECT_TRUE(group.claim(FrameIndex(9)));
  EXPECT_EQ(group.references(FrameIndex(3)), 2u);
  // Frames that wait for their VMs are not handed out.
  EXPECT_EQ(group.allocate(kFrames).first, FrameIndex(0));
  // Nor are they freed when those who are back let go of them: others may still come.
  group.unreference({FrameIndex(3), 1});
  group.unreference({FrameIndex(3), 1});
  EXPECT_FALSE(group.try_reference(FrameIndex(3)));
  EXPECT_TRUE(group.claim(FrameIndex(3)));
  EXPECT_EQ(ledger.consumed(), pages_to_bytes(3 + 3));
  group.end_recovery();
  EXPECT_EQ(ledger.consumed(), pages_to_bytes(2 + 3));
  EXPECT_FALSE(group.claim(FrameIndex(4)));
  EXPECT_FALSE(group.claim(FrameIndex(9)));
  EXPECT_EQ(group.table().find(group.hash(group.bytes(FrameIndex(9)))).frame, FrameIndex(9));
  group.unreference({FrameIndex(9), 1});
}

TEST(ShareGroup, LettersReachTheirMemberAndRingOnce) {
  Group g;
  int rings = 0;
  const uint32_t a = g.group.enter(128, [&] { ++rings; });
  const uint32_t b = g.group.enter(128, {});
  EXPECT_EQ(g.group.members(), 2u);
  for (uint32_t i = 0; i < 10'000; ++i) {
    g.group.write_to(a, {ShareLetter::Kind::kDonate, PageIndex(i), {}, {b, PageIndex(0)}});
  }
  EXPECT_EQ(rings, 1);
  std::vector<ShareLetter> letters;
  g.group.take_letters(a, letters);
  EXPECT_EQ(letters.size(), 4096u);
  g.group.take_letters(a, letters);
  g.group.take_letters(b, letters);
  EXPECT_EQ(letters.size(), 4096u);
  g.group.leave(a);
  EXPECT_FALSE(g.group.write_to(a, {}));
}

TEST(ShareGroup, PartsAreByPages) {
  Group g;
  g.share(std::byte{1});
  g.share(std::byte{2});
  g.group.add_shared(8);
  EXPECT_EQ(g.group.part_bytes(0), 0u);
  EXPECT_EQ(g.group.part_bytes(4), kPageBytes);
  EXPECT_EQ(g.group.part_bytes(8), 2 * kPageBytes);
  EXPECT_EQ(g.group.report().shared_bytes, 8 * kPageBytes);
  g.group.add_shared(-8);
}

}  // namespace
}  // namespace ballast::engine
