#include "machine/linux/share_pool.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>

#include "machine/linux/test_guest.h"

namespace ballast::linux_machine {
namespace {

using testing::HasSubstr;
constexpr uint32_t kFrames = 1000;

void fill(LinuxSharePool& pool, uint32_t frame, int value) {
  std::ranges::fill(pool.frame(FrameIndex(frame)), std::byte(value));
}

std::vector<FrameRun> present(LinuxSharePool& pool) {
  std::vector<FrameRun> runs;
  pool.find_present(runs);
  return runs;
}

int64_t frames_allocated(const LinuxSharePool& pool) {
  struct stat info {};
  EXPECT_EQ(::fstat(pool.read_only_fd()->get(), &info), 0);
  return info.st_blocks * 512 / ssize_t{kPageBytes};
}

TEST(LinuxSharePool, StoresAllocateAndReleaseFrees) {
  auto pool = LinuxSharePool::create("group", kFrames).value();
  EXPECT_EQ(pool->frame_count(), kFrames);
  EXPECT_EQ(frames_allocated(*pool), 0);
  EXPECT_TRUE(present(*pool).empty());
  for (const uint32_t frame : {0u, 1u, 2u, 500u, 999u}) fill(*pool, frame, 7);
  EXPECT_EQ(frames_allocated(*pool), 5);
  EXPECT_EQ(present(*pool), (std::vector<FrameRun>{
                                {FrameIndex(0), 3}, {FrameIndex(500), 1}, {FrameIndex(999), 1}}));
  pool->release({FrameIndex(1), 600});
  pool->release({FrameIndex(3), 0});
  EXPECT_EQ(present(*pool), (std::vector<FrameRun>{{FrameIndex(0), 1}, {FrameIndex(999), 1}}));
  EXPECT_EQ(pool->frame(FrameIndex(0))[4095], std::byte{7});
  EXPECT_EQ(pool->frame(FrameIndex(1))[0], std::byte{0});
  pool->release({FrameIndex(0), kFrames});
  EXPECT_EQ(frames_allocated(*pool), 0);
}

TEST(LinuxSharePool, NextDaemonFindsTheFrames) {
  auto pool = LinuxSharePool::create("group", kFrames).value();
  fill(*pool, 17, 42);
  const FileId identity = pool->identity();
  auto kept = pool->read_only_fd().value();
  EXPECT_EQ(::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, kept.get(), 0),
            MAP_FAILED);
  EXPECT_NE(LinuxSharePool::create("group", kFrames).value()->identity(), identity);
  pool.reset();
  auto next = LinuxSharePool::adopt(std::move(kept));
  ASSERT_TRUE(next) << next.error().message;
  EXPECT_EQ((*next)->identity(), identity);
  EXPECT_EQ((*next)->frame_count(), kFrames);
  EXPECT_EQ(present(**next), (std::vector<FrameRun>{{FrameIndex(17), 1}}));
  fill(**next, 17, 43);
}

TEST(LinuxSharePool, RefusesWhatIsNotOurs) {
  const auto adopt = [](int fd) {
    auto result = LinuxSharePool::adopt(duplicate(fd));
    return result ? std::string("accepted") : result.error().message;
  };
  UniqueFd loose(::memfd_create("loose", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_THAT(adopt(loose.get()), HasSubstr("it has 0 bytes"));
  ASSERT_EQ(::ftruncate(loose.get(), kPageBytes + 1), 0);
  EXPECT_THAT(adopt(loose.get()), HasSubstr("it has 4097 bytes"));
  ASSERT_EQ(::ftruncate(loose.get(), kPageBytes), 0);
  ASSERT_EQ(::fchmod(loose.get(), 0644), 0);
  EXPECT_THAT(adopt(loose.get()), HasSubstr("others may open it"));
  ASSERT_EQ(::fchmod(loose.get(), 0600), 0);
  EXPECT_THAT(adopt(loose.get()), HasSubstr("sealed against resizing"));
  UniqueFd null(::open("/dev/null", O_RDWR));
  EXPECT_THAT(adopt(null.get()), HasSubstr("not ours"));
  EXPECT_NE(adopt(-1), "accepted");
}

}  // namespace
}  // namespace ballast::linux_machine
