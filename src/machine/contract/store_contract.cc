// The promises of machine/vm_store.h.
#include <gtest/gtest.h>

#include <algorithm>

#include "machine/contract/under_test.h"

namespace ballast::machine::contract {
namespace {

class VmStoreContract : public testing::Test {
 protected:
  void SetUp() override {
    std::string why_not;
    machine_ = make_store(why_not);
    if (!machine_) GTEST_SKIP() << why_not;
  }
  static bool all_zero(std::span<const std::byte> bytes) {
    return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
  }
  VmStore& store() { return machine_->store(); }

  std::unique_ptr<StoreUnderTest> machine_;
};

TEST_F(VmStoreContract, StartsAsZerosPageAligned) {
  ASSERT_GE(store().tables().size(), kTablesBytes);
  ASSERT_GE(store().arena().size(), kArenaBytes);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(store().tables().data()) % kPageBytes, 0u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(store().arena().data()) % kPageBytes, 0u);
  EXPECT_EQ(machine_->arena_frames_bytes(), 0u) << "the arena is sparse";
  EXPECT_TRUE(all_zero(store().tables()));
  EXPECT_TRUE(all_zero(store().arena()));
}

TEST_F(VmStoreContract, ReleasedArenaReadsAsZerosAndTakesNoFrames) {
  auto arena = store().arena().first(8 * kPageBytes);
  std::fill(arena.begin(), arena.end(), std::byte{1});
  EXPECT_EQ(machine_->arena_frames_bytes(), 8 * kPageBytes);
  store().release_arena(2 * kPageBytes, 4 * kPageBytes);
  EXPECT_EQ(machine_->arena_frames_bytes(), 4 * kPageBytes);
  EXPECT_TRUE(all_zero(arena.subspan(2 * kPageBytes, 4 * kPageBytes)));
  EXPECT_EQ(arena[2 * kPageBytes - 1], std::byte{1});
  EXPECT_EQ(arena[6 * kPageBytes], std::byte{1});
}

TEST_F(VmStoreContract, TheNextDaemonSeesTheLastStores) {
  store().tables()[kTablesBytes - 1] = std::byte{5};
  store().arena()[kArenaBytes - 1] = std::byte{6};
  machine_->reopen();
  EXPECT_EQ(store().tables()[kTablesBytes - 1], std::byte{5});
  EXPECT_EQ(store().arena()[kArenaBytes - 1], std::byte{6});
  EXPECT_EQ(store().tables()[0], std::byte{0});
}

}  // namespace
}  // namespace ballast::machine::contract
