#include "engine/pmap/tables.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace ballast::engine {
namespace {

constexpr uint32_t kPages = 1000;
constexpr uint32_t kSlots = 700;

class TablesTest : public testing::Test {
 protected:
  // Words, so that the bytes are aligned.
  std::vector<uint64_t> words_ =
      std::vector<uint64_t>(Tables::bytes_for(kPages, kSlots) / sizeof(uint64_t));
  std::span<std::byte> bytes() { return std::as_writable_bytes(std::span(words_)); }
  std::string refusal(uint32_t pages, uint32_t slots) {
    const auto opened = Tables::open(bytes(), pages, slots);
    return opened ? "" : opened.error().message;
  }
};

TEST_F(TablesTest, SizeIsHeaderPmapAndChecksumsInWholePages) {
  EXPECT_EQ(Tables::bytes_for(512, 512), 3 * kPageBytes);
  EXPECT_EQ(Tables::bytes_for(513, 0), 3 * kPageBytes);
  EXPECT_EQ(Tables::bytes_for(1, 1), 3 * kPageBytes);
  EXPECT_EQ(Tables::bytes_for(~0u, ~0u) % kPageBytes, 0u);
  EXPECT_GT(Tables::bytes_for(~0u, ~0u), uint64_t{64} << 30);  // no 32-bit wrap
}

TEST_F(TablesTest, FreshTablesAreUntouched) {
  const Tables tables = Tables::format(bytes(), kPages, kSlots, 7);
  for (uint32_t page = 0; page < kPages; ++page) {
    EXPECT_EQ(tables.get(PageIndex(page)), PageEntry());
  }
}

TEST_F(TablesTest, WhatOneDaemonStoredTheNextOneReads) {
  {
    Tables tables = Tables::format(bytes(), kPages, kSlots, 0x1234567890abcdef);
    for (uint32_t i = 0; i < kSlots; ++i) {
      tables.put(PageIndex(i), PageEntry::with_slot(PageState::kSwapped, SwapSlot(kSlots - 1 - i)));
      tables.set_checksum(SwapSlot(i), i * 0x9e3779b97f4a7c15);
    }
  }
  const auto opened = Tables::open(bytes(), kPages, kSlots);
  ASSERT_TRUE(opened);
  EXPECT_EQ(opened->page_count(), kPages);
  EXPECT_EQ(opened->slot_count(), kSlots);
  EXPECT_EQ(opened->key(), 0x1234567890abcdefu);
  for (uint32_t i = 0; i < kSlots; ++i) {
    EXPECT_EQ(opened->get(PageIndex(i)).slot(), SwapSlot(kSlots - 1 - i));
    EXPECT_EQ(opened->checksum(SwapSlot(i)), i * 0x9e3779b97f4a7c15);
  }
  EXPECT_EQ(opened->get(PageIndex(kSlots)), PageEntry());
}

TEST_F(TablesTest, RefusesWhatIsTooSmall) {
  Tables::format(bytes(), kPages, kSlots, 7);
  const auto opened = Tables::open(bytes().first(2 * kPageBytes), kPages, kSlots);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().message,
            "tables of 8192 bytes are too small for 1000 pages and 700 swap slots");
  EXPECT_FALSE(Tables::open({}, kPages, kSlots));
  EXPECT_FALSE(Tables::open(bytes(), ~0u, kSlots));
  EXPECT_FALSE(Tables::open(bytes(), kPages, ~0u));
}

TEST_F(TablesTest, RefusesAnotherMark) {
  EXPECT_EQ(refusal(kPages, kSlots),
            "tables carry the mark 0x0, expected 0x626c736470616d31: written by another version?");
  Tables::format(bytes(), kPages, kSlots, 7);
  words_[0] ^= 1;
  EXPECT_EQ(refusal(kPages, kSlots),
            "tables carry the mark 0x626c736470616d30, expected 0x626c736470616d31: written by "
            "another version?");
}

TEST_F(TablesTest, KeepsTheSaltGroup) {
  Tables::format(bytes(), kPages, kSlots, 7);
  EXPECT_EQ(Tables::group(bytes()), "");
  const std::string longest(Tables::kGroupBytesMax, 'g');
  Tables::format(bytes(), kPages, kSlots, 7, longest);
  EXPECT_EQ(Tables::group(bytes()), longest);
  words_[0] ^= 1;
  EXPECT_EQ(Tables::group(bytes()), "");
  EXPECT_EQ(Tables::group(bytes().first(16)), "");
}

TEST_F(TablesTest, RefusesAnotherVmsSizes) {
  Tables::format(bytes(), kPages, kSlots, 7);
  EXPECT_EQ(refusal(kPages - 1, kSlots),
            "tables describe 1000 pages and 700 swap slots, the VM has 999 and 700");
  EXPECT_EQ(refusal(kPages, 0),
            "tables describe 1000 pages and 700 swap slots, the VM has 1000 and 0");
}

}  // namespace
}  // namespace ballast::engine
