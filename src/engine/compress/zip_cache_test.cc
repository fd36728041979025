#include "engine/compress/zip_cache.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstring>
#include <list>
#include <map>

#include "base/random.h"

namespace ballast::engine {
namespace {

constexpr uint64_t kSlab = ZipCache::kSlabBytes;

// An arena in plain memory; released slabs read as zeros.
class PlainStore final : public machine::VmStore {
 public:
  explicit PlainStore(size_t slabs) : words_(slabs * kSlab / sizeof(uint64_t)) {}
  std::span<std::byte> tables() override { return {}; }
  std::span<std::byte> arena() override { return std::as_writable_bytes(std::span(words_)); }
  void release_arena(size_t offset, size_t bytes) override {
    ASSERT_EQ(offset % kPageBytes, 0u);
    ASSERT_LE(offset + bytes, arena().size());
    std::memset(arena().data() + offset, 0, bytes);
    ++releases;
  }
  uint32_t releases = 0;

 private:
  std::vector<uint64_t> words_;
};

std::vector<std::byte> contents(uint32_t seed, uint32_t length) {
  Random random(seed);
  std::vector<std::byte> bytes(length);
  for (auto& byte : bytes) byte = static_cast<std::byte>(random.next());
  return bytes;
}

struct Stored {
  uint32_t page;
  uint64_t offset;
  std::vector<std::byte> bytes;
};

// A cache beside a list of what it should hold, oldest first.
struct Model {
  Model(size_t slabs, uint64_t max_bytes, uint64_t budget)
      : store(slabs), ledger(budget), cache(std::make_unique<ZipCache>(store, ledger, max_bytes)) {}

  ZipCache::PutResult put(uint32_t page, uint32_t length) {
    auto bytes = contents(page, length);
    const auto result = cache->put(PageIndex(page), bytes);
    if (result.offset) stored.push_back({page, *result.offset, std::move(bytes)});
    return result;
  }
  void free(std::list<Stored>::iterator it) {
    cache->free(it->offset);
    stored.erase(it);
  }
  // Contents, age order, counts and charges.
  void compare(bool ordered = true) const {
    uint64_t offset = cache->empty() ? ZipCache::kEnd : cache->oldest();
    size_t linked = 0;
    for (auto it = stored.begin(); offset != ZipCache::kEnd; offset = cache->younger(offset)) {
      ASSERT_LT(linked, stored.size());
      ++linked;
      if (!ordered) continue;
      ASSERT_EQ(offset, it->offset);
      ASSERT_EQ(cache->page_at(offset), PageIndex(it->page));
      ++it;
    }
    ASSERT_EQ(linked, stored.size());
    for (const Stored& each : stored) {
      const auto bytes = cache->get(each.offset, static_cast<uint32_t>(each.bytes.size()));
      ASSERT_TRUE(std::equal(bytes.begin(), bytes.end(), each.bytes.begin(), each.bytes.end()));
      ASSERT_EQ(cache->page_at(each.offset), PageIndex(each.page));
    }
    ASSERT_EQ(cache->slots_used(), stored.size());
    ASSERT_EQ(cache->count_slots(), stored.size());
    ASSERT_EQ(cache->used_bytes(), ledger.consumed());
    ASSERT_EQ(cache->used_bytes() == 0, stored.empty());
  }
  // The daemon dies: another cache over the same arena claims what the entries name.
  void recover(uint64_t max_bytes) {
    cache.reset();
    ASSERT_EQ(ledger.consumed(), 0u);
    cache = std::make_unique<ZipCache>(store, ledger, max_bytes);
    for (const Stored& each : stored) {
      ASSERT_TRUE(cache->claim(PageIndex(each.page), each.offset,
                               static_cast<uint32_t>(each.bytes.size())));
    }
    cache->link_claimed();
    compare(false);
    // Age is forgotten: place decides until pages are put again.
    stored.sort([](const Stored& a, const Stored& b) { return a.offset < b.offset; });
  }

  PlainStore store;
  Ledger ledger;
  std::unique_ptr<ZipCache> cache;
  std::list<Stored> stored;
};

RC_GTEST_PROP(ZipCacheProperty, BehavesLikeAList, ()) {
  const auto max_slabs = *rc::gen::inRange<uint64_t>(0, 12);
  const auto budget_slabs = *rc::gen::inRange<uint64_t>(0, 12);
  const auto seed = *rc::gen::arbitrary<uint32_t>();
  const auto steps = *rc::gen::inRange<uint32_t>(0, 600);
  Model model(16, max_slabs * kSlab + 100, budget_slabs * kSlab);
  Random random(seed);
  for (uint32_t step = 0; step < steps; ++step) {
    const uint32_t what = random.below(10);
    if (what < 6) {
      const uint32_t length = random.chance(300) ? 1 + random.below(150) : 1 + random.below(2048);
      const auto result = model.put(step, length);
      if (!result.offset) {
        const bool at_cap = model.cache->used_bytes() == std::min<uint64_t>(max_slabs, 16) * kSlab;
        RC_ASSERT(result.stop ==
                  (at_cap ? ZipCache::PutStop::kFull : ZipCache::PutStop::kNoMemory));
        RC_ASSERT(at_cap || model.ledger.consumed() == budget_slabs * kSlab);
        RC_ASSERT(model.cache->has_room() == !at_cap);
      }
    } else if (what < 9 && !model.stored.empty()) {
      auto it = model.stored.begin();
      std::advance(it, random.below(static_cast<uint32_t>(model.stored.size())));
      model.free(it);
    } else if (!model.stored.empty()) {
      model.free(model.stored.begin());  // ageing
    }
    RC_ASSERT(model.cache->used_bytes() <= model.cache->max_bytes());
    if (random.chance(20)) model.recover(max_slabs * kSlab + 100);
    if (step % 16 == 0) model.compare();
    RC_ASSERT(!testing::Test::HasFailure());
  }
  model.compare();
  while (!model.stored.empty()) model.free(model.stored.begin());
  RC_ASSERT(model.cache->empty() && model.ledger.consumed() == 0);
}

TEST(ZipCache, EveryLengthFitsItsSlotAndWastesLittle) {
  Model model(4096, 4096 * kSlab, 4096 * kSlab);
  for (uint32_t length = 1; length <= kCompressedBytesMax; ++length) {
    ASSERT_TRUE(model.put(length, length).offset);
    ASSERT_TRUE(model.put(length + 5000, length).offset);
  }
  model.compare();
  // All lengths alike, 12 bytes of header each: what slabs of 19 sizes waste.
  uint64_t bytes = 0;
  for (const Stored& each : model.stored) bytes += each.bytes.size() + 12;
  EXPECT_LT(static_cast<double>(model.cache->used_bytes()), 1.12 * static_cast<double>(bytes));
}

TEST(ZipCache, FreedSlabsAreGivenBack) {
  Model model(4, 4 * kSlab, 4 * kSlab);
  for (uint32_t page = 0; page < 7; ++page) ASSERT_TRUE(model.put(page, 2048).offset);
  EXPECT_EQ(model.ledger.consumed(), kSlab);
  ASSERT_TRUE(model.put(7, 2048).offset);
  EXPECT_EQ(model.ledger.consumed(), 2 * kSlab);
  while (!model.stored.empty()) model.free(model.stored.begin());
  EXPECT_EQ(model.ledger.consumed(), 0u);
  EXPECT_EQ(model.store.releases, 2u);
}

TEST(ZipCache, FullAndNoMemoryAreToldApart) {
  Model full(16, 2 * kSlab - 1, 16 * kSlab);
  for (uint32_t page = 0; page < 7; ++page) ASSERT_TRUE(full.put(page, 2048).offset);
  EXPECT_EQ(full.put(7, 2048).stop, ZipCache::PutStop::kFull);
  EXPECT_FALSE(full.cache->has_room());
  Model poor(16, 16 * kSlab, kSlab + 100);
  for (uint32_t page = 0; page < 7; ++page) ASSERT_TRUE(poor.put(page, 2048).offset);
  EXPECT_EQ(poor.put(7, 2048).stop, ZipCache::PutStop::kNoMemory);
  EXPECT_TRUE(poor.cache->has_room());
}

TEST(ZipCache, SlabsCanChangeTheirSizeClass) {
  Model model(1, kSlab, kSlab);
  ASSERT_TRUE(model.put(1, 2048).offset);
  EXPECT_FALSE(model.put(2, 50).offset);
  model.free(model.stored.begin());
  for (uint32_t page = 0; page < 128; ++page) ASSERT_TRUE(model.put(page, 50).offset);
  EXPECT_FALSE(model.put(200, 50).offset);
  model.compare();
}

// Descriptors are made for slabs that are used, not for all that the arena could hold.
TEST(ZipCache, AnIdleCacheOfALargeVmCostsNothing) {
  class HugeStore final : public machine::VmStore {
   public:
    std::span<std::byte> tables() override { return {}; }
    std::span<std::byte> arena() override {
      return {static_cast<std::byte*>(nullptr), size_t{1} << 40};
    }
    void release_arena(size_t offset, size_t bytes) override { released = offset + bytes; }
    size_t released = 0;
  } store;
  Ledger ledger(1 << 30);
  ZipCache cache(store, ledger, uint64_t{100} << 30);
  EXPECT_TRUE(cache.empty());
  EXPECT_EQ(ledger.consumed(), 0u);
  // Links reach 64 GiB; what lies behind is never used and never believed.
  EXPECT_FALSE(cache.claim(PageIndex(1), (uint64_t{64} << 30) - kSlab, 2048));
  EXPECT_FALSE(cache.claim(PageIndex(1), uint64_t{64} << 30, 2048));
  cache.link_claimed();
  EXPECT_EQ(store.released, (size_t{64} << 30) - kSlab);
}

class HostileClaims : public testing::Test {
 protected:
  bool claim(uint64_t offset, uint32_t length) {
    return cache_.claim(PageIndex(1), offset, length);
  }
  PlainStore store_{4};
  Ledger ledger_{1 << 30};
  ZipCache cache_{store_, ledger_, 4 * kSlab};
};

TEST_F(HostileClaims, LengthsThatNoPageHas) {
  EXPECT_FALSE(claim(0, 0));
  EXPECT_FALSE(claim(0, 2049));
  EXPECT_FALSE(claim(0, 8191));
  EXPECT_TRUE(claim(0, 2048));
}

TEST_F(HostileClaims, OffsetsOutsideTheArena) {
  EXPECT_FALSE(claim(4 * kSlab, 2048));
  EXPECT_FALSE(claim((uint64_t{1} << 40) - 16, 100));
  EXPECT_TRUE(claim(3 * kSlab, 2048));
}

TEST_F(HostileClaims, OffsetsBetweenSlots) {
  for (uint64_t offset = 1; offset < 2336; ++offset) EXPECT_FALSE(claim(offset, 2048)) << offset;
  EXPECT_TRUE(claim(2336, 2048));
  EXPECT_FALSE(claim(7 * 2336, 2048));  // behind the seventh and last
}

TEST_F(HostileClaims, TwoPagesInOneSlot) {
  EXPECT_TRUE(claim(2336, 2048));
  EXPECT_FALSE(claim(2336, 2048));
  EXPECT_FALSE(claim(2336, 2040));
}

TEST_F(HostileClaims, TwoSizesInOneSlab) {
  EXPECT_TRUE(claim(0, 2048));
  EXPECT_FALSE(claim(128 * 100, 50));
}

RC_GTEST_PROP(ZipCacheProperty, RandomClaimsNeverOverlap, ()) {
  const auto seed = *rc::gen::arbitrary<uint32_t>();
  Random random(seed);
  PlainStore store(2);
  Ledger ledger(1 << 30);
  ZipCache cache(store, ledger, 2 * kSlab);
  std::map<uint64_t, uint32_t> claimed;
  for (int i = 0; i < 400; ++i) {
    const uint64_t offset = random.below(2 * kSlab / 16) * 16;
    const uint32_t length = 1 + random.below(2048);
    if (!cache.claim(PageIndex(static_cast<uint32_t>(i)), offset, length)) continue;
    RC_ASSERT(offset + 12 + length <= 2 * kSlab);
    RC_ASSERT(claimed.emplace(offset, 12 + length).second);
  }
  uint64_t end = 0;
  for (const auto& [offset, bytes] : claimed) {
    RC_ASSERT(offset >= end);
    end = offset + bytes;
  }
  cache.link_claimed();
  RC_ASSERT(cache.slots_used() == claimed.size());
  for (const auto& [offset, bytes] : claimed) cache.free(offset);
  RC_ASSERT(ledger.consumed() == 0);
}

TEST(ZipCacheDeathTest, FreeingTwiceIsABug) {
  Model model(1, kSlab, kSlab);
  const auto put = model.put(1, 100);
  ASSERT_TRUE(model.put(2, 100).offset);
  model.cache->free(*put.offset);
  EXPECT_DEATH(model.cache->free(*put.offset), "arena offset");
}

}  // namespace
}  // namespace ballast::engine
