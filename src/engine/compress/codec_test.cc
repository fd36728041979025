#include "engine/compress/codec.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "base/random.h"

namespace ballast::engine {
namespace {

using Page = std::array<std::byte, kPageBytes>;

Page random_page(Random& random) {
  Page page;
  for (size_t i = 0; i < kPageBytes; i += 8) {
    const uint64_t word = random.next();
    std::memcpy(page.data() + i, &word, 8);
  }
  return page;
}

// `noise` of the 512 words are random, the rest repeats.
Page mixed_page(Random& random, uint32_t noise) {
  Page page;
  page.fill(std::byte{0x5a});
  for (uint32_t i = 0; i < noise; ++i) {
    const uint64_t word = random.next();
    std::memcpy(page.data() + size_t{random.below(512)} * 8, &word, 8);
  }
  return page;
}

// Compresses and, if it fitted, restores. Returns the length.
uint32_t round_trip(Codec& codec, const Page& page) {
  std::array<std::byte, kCompressedBytesMax> out;
  const uint32_t length = codec.compress(page, out);
  EXPECT_LE(length, kCompressedBytesMax);
  if (length == 0) return 0;
  Page back;
  back.fill(std::byte{0xee});
  EXPECT_TRUE(Codec::decompress(std::span(out).first(length), back));
  EXPECT_EQ(std::memcmp(back.data(), page.data(), kPageBytes), 0);
  return length;
}

TEST(Codec, AllKindsOfPagesComeBack) {
  Codec codec;
  Random random(1);
  Page zero{};
  EXPECT_GT(round_trip(codec, zero), 0u);
  EXPECT_LT(round_trip(codec, zero), 64u);
  EXPECT_EQ(round_trip(codec, random_page(random)), 0u);
  uint32_t kept = 0;
  for (int i = 0; i < 3000; ++i) {
    kept += round_trip(codec, mixed_page(random, random.below(512))) > 0 ? 1 : 0;
  }
  EXPECT_GT(kept, 500u);
  EXPECT_LT(kept, 2500u);
}

TEST(Codec, ThePageBeforeDoesNotShowInTheNext) {
  Codec fresh;
  Codec used;
  Random random(2);
  for (int i = 0; i < 200; ++i) {
    const Page page = mixed_page(random, 100);
    std::array<std::byte, kCompressedBytesMax> out;
    const uint32_t length = used.compress(page, out);
    ASSERT_GT(length, 0u);
    Page back;
    ASSERT_TRUE(Codec::decompress(std::span(out).first(length), back));
    ASSERT_EQ(std::memcmp(back.data(), page.data(), kPageBytes), 0);
  }
}

// Damaged bytes may decompress to anything, but never to less or more than a page, and never beyond
// the buffer (the sanitizers watch).
TEST(Codec, GarbageNeverCrashesAndIsNeverAShortPage) {
  Random random(3);
  Codec codec;
  std::vector<std::byte> guarded(kPageBytes + 64);
  for (int i = 0; i < 20000; ++i) {
    std::vector<std::byte> garbage(1 + random.below(kCompressedBytesMax));
    for (auto& byte : garbage) byte = static_cast<std::byte>(random.next());
    std::fill(guarded.begin(), guarded.end(), std::byte{0x77});
    (void)Codec::decompress(garbage, std::span(guarded).first<kPageBytes>());
    for (size_t at = kPageBytes; at < guarded.size(); ++at) ASSERT_EQ(guarded[at], std::byte{0x77});
  }
}

TEST(Codec, TruncatedPagesAreRefused) {
  Random random(4);
  Codec codec;
  for (int i = 0; i < 200; ++i) {
    const Page page = mixed_page(random, 100);
    std::array<std::byte, kCompressedBytesMax> out;
    const uint32_t length = codec.compress(page, out);
    ASSERT_GT(length, 0u);
    Page back;
    for (uint32_t cut = 0; cut < length; cut += 1 + random.below(20)) {
      EXPECT_FALSE(Codec::decompress(std::span(out).first(cut), back)) << cut << " of " << length;
    }
  }
}

TEST(Codec, ZeroIsZeroOnly) {
  Page page{};
  EXPECT_TRUE(is_zero(page));
  for (size_t at = 0; at < kPageBytes; ++at) {
    page[at] = std::byte{1};
    EXPECT_FALSE(is_zero(page)) << at;
    page[at] = std::byte{0};
  }
  page.fill(std::byte{1});
  EXPECT_FALSE(is_zero(page));
}

TEST(Codec, ChecksumsDependOnEveryByteAndTheKey) {
  Random random(5);
  Page page = random_page(random);
  const uint64_t before = page_checksum(page, 42);
  EXPECT_EQ(before, page_checksum(page, 42));
  EXPECT_NE(before, page_checksum(page, 43));
  for (size_t at = 0; at < kPageBytes; ++at) {
    page[at] ^= std::byte{1};
    EXPECT_NE(before, page_checksum(page, 42)) << at;
    page[at] ^= std::byte{1};
  }
}

}  // namespace
}  // namespace ballast::engine
