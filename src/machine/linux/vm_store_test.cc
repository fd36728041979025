#include "machine/linux/vm_store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>

#include "base/units.h"
#include "machine/linux/test_guest.h"

namespace ballast::linux_machine {
namespace {

using testing::HasSubstr;
constexpr size_t kTables = 3 * kPageBytes;
constexpr size_t kArena = 32 * kPageBytes;

TEST(MemfdStore, StartsAsZerosAndReleasesFrames) {
  auto store = MemfdStore::create("vm", kTables, kArena).value();
  ASSERT_EQ(store->tables().size(), kTables);
  ASSERT_EQ(store->arena().size(), kArena);
  EXPECT_TRUE(std::ranges::all_of(store->arena(), [](auto b) { return b == std::byte{0}; }));
  std::ranges::fill(store->arena(), std::byte{1});
  store->release_arena(4 * kPageBytes, 8 * kPageBytes);
  auto kept = store->read_only_fd(MemfdStore::Part::kArena).value();
  struct stat info {};
  ASSERT_EQ(::fstat(kept.get(), &info), 0);
  EXPECT_EQ(info.st_blocks * 512, 24 * ssize_t{kPageBytes});
  EXPECT_EQ(store->arena()[5 * kPageBytes], std::byte{0});
}

TEST(MemfdStore, NextDaemonSeesTheLastStores) {
  auto store = MemfdStore::create("vm", kTables, kArena).value();
  store->tables()[17] = std::byte{42};
  store->arena()[kArena - 1] = std::byte{43};
  auto tables = store->read_only_fd(MemfdStore::Part::kTables).value();
  auto arena = store->read_only_fd(MemfdStore::Part::kArena).value();
  EXPECT_EQ(::mmap(nullptr, kTables, PROT_READ | PROT_WRITE, MAP_SHARED, tables.get(), 0),
            MAP_FAILED)
      << "the agent must not write";
  store.reset();
  auto next = MemfdStore::adopt(std::move(tables), std::move(arena), kTables, kArena);
  ASSERT_TRUE(next) << next.error().message;
  EXPECT_EQ((*next)->tables()[17], std::byte{42});
  EXPECT_EQ((*next)->arena()[kArena - 1], std::byte{43});
  (*next)->tables()[17] = std::byte{1};
}

TEST(MemfdStore, EmptyParts) {
  auto store = MemfdStore::create("vm", kTables, 0);
  ASSERT_TRUE(store);
  EXPECT_TRUE((*store)->arena().empty());
  (*store)->release_arena(0, 0);
}

TEST(MemfdStore, RefusesWhatIsNotOurs) {
  auto store = MemfdStore::create("vm", kTables, kArena).value();
  const auto tables = store->read_only_fd(MemfdStore::Part::kTables).value();
  const auto arena = store->read_only_fd(MemfdStore::Part::kArena).value();
  const auto adopt = [&](int t, int a, size_t t_bytes = kTables) {
    auto result = MemfdStore::adopt(duplicate(t), duplicate(a), t_bytes, kArena);
    return result ? std::string("accepted") : result.error().message;
  };
  EXPECT_EQ(adopt(tables.get(), arena.get()), "accepted");
  EXPECT_THAT(adopt(tables.get(), tables.get()), HasSubstr("one and the same"));
  EXPECT_THAT(adopt(arena.get(), tables.get()), HasSubstr("expected 12288"));
  EXPECT_THAT(adopt(tables.get(), arena.get(), 2 * kTables), HasSubstr("expected 24576"));
  // A memfd of the right size that its owner can truncate under our mapping.
  UniqueFd loose(::memfd_create("loose", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::fchmod(loose.get(), 0600), 0);
  ASSERT_EQ(::ftruncate(loose.get(), kTables), 0);
  EXPECT_THAT(adopt(loose.get(), arena.get()), HasSubstr("sealed against resizing"));
  UniqueFd file(::open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  ASSERT_EQ(::ftruncate(file.get(), kTables), 0);
  EXPECT_THAT(adopt(file.get(), arena.get()), HasSubstr("not a memfd"));
  UniqueFd null(::open("/dev/null", O_RDWR));
  EXPECT_THAT(adopt(null.get(), arena.get()), HasSubstr("not a regular file"));
}

}  // namespace
}  // namespace ballast::linux_machine
