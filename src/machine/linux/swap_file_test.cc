#include "machine/linux/swap_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>

#include "machine/linux/test_guest.h"

namespace ballast::linux_machine {
namespace {

using machine::IoDone;
using machine::IoStatus;
using testing::HasSubstr;

struct Free {
  void operator()(std::byte* bytes) const { std::free(bytes); }
};

class Pages {
 public:
  explicit Pages(uint32_t count, int fill = 0)
      : bytes_(static_cast<std::byte*>(std::aligned_alloc(kPageBytes, count * kPageBytes))),
        count_(count) {
    std::memset(bytes_.get(), fill, count * kPageBytes);
  }
  std::span<std::byte> span() const { return {bytes_.get(), count_ * kPageBytes}; }

 private:
  std::unique_ptr<std::byte, Free> bytes_;
  size_t count_;
};

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = "/var/tmp/ballast-swap-XXXXXX";
    path_ = ::mkdtemp(name.data());
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::map<uint64_t, IoStatus> wait_for(SwapFile& swap, size_t count) {
  std::map<uint64_t, IoStatus> all;
  while (all.size() < count) {
    std::array<IoDone, 5> done;
    const size_t got = swap.poll(done);
    for (size_t i = 0; i < got; ++i) EXPECT_TRUE(all.emplace(done[i].token, done[i].status).second);
    if (got > 0) continue;
    pollfd watch{swap.wait_fd(), POLLIN, 0};
    if (::poll(&watch, 1, 5000) <= 0) {
      ADD_FAILURE() << "nothing completed in 5 s";
      break;
    }
  }
  return all;
}

// With and without io_uring, with and without direct I/O.
class SwapFileTest : public testing::TestWithParam<std::pair<bool, bool>> {
 protected:
  SwapFileChoices choices() const { return {GetParam().first, GetParam().second}; }
  std::unique_ptr<SwapFile> make(uint32_t slots) {
    auto swap = SwapFile::create(directory_.path(), "vm", pages_to_bytes(slots), choices());
    if (!swap) {
      ADD_FAILURE() << swap.error().message;
      return nullptr;
    }
    return std::move(swap).value();
  }
  TemporaryDirectory directory_;
};

INSTANTIATE_TEST_SUITE_P(Ways, SwapFileTest,
                         testing::Values(std::pair{true, true}, std::pair{true, false},
                                         std::pair{false, true}, std::pair{false, false}),
                         [](const auto& way) {
                           return std::string(way.param.first ? "ring" : "plain") +
                                  (way.param.second ? "_direct" : "_cached");
                         });

TEST_P(SwapFileTest, ReadsBackSinglePagesAndLargeRuns) {
  auto swap = make(1024);
  ASSERT_TRUE(swap);
  EXPECT_EQ(swap->slot_count(), 1024u);
  EXPECT_EQ(swap->has_ring(), GetParam().first) << "io_uring is forbidden here?";
  EXPECT_TRUE(GetParam().second || !swap->is_direct());
  Pages one(1, 0x11);
  Pages many(512, 0x22);
  for (uint32_t i = 0; i < 512; ++i) many.span()[i * kPageBytes] = std::byte(i);
  swap->write(SwapSlot(7), one.span(), 1);
  swap->write(SwapSlot(512), many.span(), 2);
  swap->submit();
  for (const auto& [token, status] : wait_for(*swap, 2)) EXPECT_EQ(status, IoStatus::kOk) << token;
  Pages in_one(1);
  Pages in_many(512);
  swap->read(SwapSlot(7), in_one.span(), 3);
  swap->read(SwapSlot(512), in_many.span(), 4);
  swap->submit();
  for (const auto& [token, status] : wait_for(*swap, 2)) EXPECT_EQ(status, IoStatus::kOk) << token;
  EXPECT_EQ(std::memcmp(one.span().data(), in_one.span().data(), kPageBytes), 0);
  EXPECT_EQ(std::memcmp(many.span().data(), in_many.span().data(), 512 * kPageBytes), 0);
  EXPECT_EQ(swap->in_flight(), 0u);
}

TEST_P(SwapFileTest, MoreOperationsThanTheQueueHolds) {
  auto swap = make(300);
  ASSERT_TRUE(swap);
  Pages out(300);
  for (uint32_t i = 0; i < 300; ++i) out.span()[i * kPageBytes + 9] = std::byte(i % 251);
  for (uint32_t i = 0; i < 300; ++i) {
    swap->write(SwapSlot(i), out.span().subspan(i * kPageBytes, kPageBytes), i);
  }
  swap->submit();
  EXPECT_EQ(wait_for(*swap, 300).size(), 300u);
  Pages in(300);
  for (uint32_t i = 0; i < 300; ++i) {
    swap->read(SwapSlot(i), in.span().subspan(i * kPageBytes, kPageBytes), i);
  }
  swap->submit();
  for (const auto& [token, status] : wait_for(*swap, 300)) EXPECT_EQ(status, IoStatus::kOk);
  EXPECT_EQ(std::memcmp(out.span().data(), in.span().data(), in.span().size()), 0);
}

TEST_P(SwapFileTest, LeavesNoNameInTheDirectory) {
  auto swap = make(16);
  ASSERT_TRUE(swap);
  EXPECT_TRUE(std::filesystem::is_empty(directory_.path()));
}

TEST_P(SwapFileTest, ZeroSlots) {
  auto swap = make(0);
  ASSERT_TRUE(swap);
  EXPECT_EQ(swap->slot_count(), 0u);
  swap->submit();
  std::array<IoDone, 1> done;
  EXPECT_EQ(swap->poll(done), 0u);
  auto kept = swap->read_only_fd();
  ASSERT_TRUE(kept);
  EXPECT_TRUE(SwapFile::adopt(std::move(*kept), 0, choices()).has_value());
}

TEST_P(SwapFileTest, TheNextDaemonReadsWhatTheLastWrote) {
  auto swap = make(64);
  ASSERT_TRUE(swap);
  Pages out(8, 0x5a);
  swap->write(SwapSlot(8), out.span(), 1);
  swap->submit();
  EXPECT_EQ(wait_for(*swap, 1).at(1), IoStatus::kOk);
  auto kept = swap->read_only_fd();
  ASSERT_TRUE(kept);
  EXPECT_LT(::pwrite(kept->get(), out.span().data(), 1, 0), 0) << "the agent must not write";
  swap.reset();
  auto next = SwapFile::adopt(std::move(*kept), pages_to_bytes(64), choices());
  ASSERT_TRUE(next) << next.error().message;
  Pages in(8);
  (*next)->read(SwapSlot(8), in.span(), 2);
  (*next)->write(SwapSlot(0), out.span(), 3);
  (*next)->submit();
  for (const auto& [token, status] : wait_for(**next, 2)) EXPECT_EQ(status, IoStatus::kOk);
  EXPECT_EQ(in.span()[100], std::byte{0x5a});
}

TEST_P(SwapFileTest, DestructorWaitsForOperationsInFlight) {
  Pages out(64, 1);
  auto swap = make(64);
  ASSERT_TRUE(swap);
  for (uint32_t i = 0; i < 64; ++i) {
    swap->write(SwapSlot(i), out.span().subspan(i * kPageBytes, kPageBytes), i);
  }
  swap->submit();
  swap.reset();
}

TEST(SwapFileRefusal, MissingDirectory) {
  const auto swap = SwapFile::create("/var/tmp/ballast-no-such-directory", "vm", kPageBytes);
  ASSERT_FALSE(swap);
  EXPECT_THAT(swap.error().message, HasSubstr("does not exist"));
}

TEST(SwapFileRefusal, NotADirectory) {
  const auto swap = SwapFile::create("/etc/passwd", "vm", kPageBytes);
  ASSERT_FALSE(swap);
  EXPECT_THAT(swap.error().message, HasSubstr("is not a directory"));
}

TEST(SwapFileRefusal, Memory) {
  const auto swap = SwapFile::create("/dev/shm", "vm", kPageBytes);
  ASSERT_FALSE(swap);
  EXPECT_THAT(swap.error().message, HasSubstr("memory is no place to swap to"));
}

TEST(SwapFileRefusal, NotWritable) {
  const auto swap = SwapFile::create("/proc", "vm", 0);
  ASSERT_FALSE(swap);
  EXPECT_THAT(swap.error().message, HasSubstr("create a swap file in /proc"));
}

TEST(SwapFileRefusal, NoRoomNamesTheNumbers) {
  TemporaryDirectory directory;
  const uint64_t bytes = uint64_t{8} << 40;
  const auto swap = SwapFile::create(directory.path(), "vm", bytes);
  ASSERT_FALSE(swap);
  EXPECT_THAT(swap.error().message, HasSubstr("needs 8796093022208 bytes (8 TB)"));
  EXPECT_THAT(swap.error().message, HasSubstr("free"));
  EXPECT_EQ(swap.error().system_error, ENOSPC);
}

TEST(SwapFileAdopt, RefusesFilesThatAreNotOurs) {
  TemporaryDirectory directory;
  const std::string path = directory.path() + "/named";
  UniqueFd named(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  ASSERT_EQ(::ftruncate(named.get(), kPageBytes), 0);
  auto refused = SwapFile::adopt(duplicate(named.get()), kPageBytes);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("has a name"));
  ::unlink(path.c_str());
  ASSERT_EQ(::fchmod(named.get(), 0644), 0);
  refused = SwapFile::adopt(duplicate(named.get()), kPageBytes);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("others may open it"));
  ASSERT_EQ(::fchmod(named.get(), 0600), 0);
  refused = SwapFile::adopt(duplicate(named.get()), 2 * kPageBytes);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("has 4096 bytes, expected 8192"));
  refused = SwapFile::adopt(UniqueFd(::open("/dev/null", O_RDWR)), 0);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("not a regular file"));
  UniqueFd memory(::memfd_create("m", MFD_CLOEXEC));
  ASSERT_EQ(::fchmod(memory.get(), 0600), 0);
  refused = SwapFile::adopt(std::move(memory), 0);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("not on a disk"));
  EXPECT_TRUE(SwapFile::adopt(std::move(named), kPageBytes).has_value());
}

TEST_P(SwapFileTest, ATruncatedFileFailsReadsAndNothingElse) {
  auto swap = make(16);
  ASSERT_TRUE(swap);
  Pages out(16, 3);
  swap->write(SwapSlot(0), out.span(), 1);
  swap->submit();
  EXPECT_EQ(wait_for(*swap, 1).at(1), IoStatus::kOk);
  auto kept = swap->read_only_fd();
  ASSERT_TRUE(kept);
  ASSERT_EQ(::truncate(("/proc/self/fd/" + std::to_string(kept->get())).c_str(), 8 * kPageBytes),
            0);
  Pages in(16);
  swap->read(SwapSlot(4), in.span().first(4 * kPageBytes), 2);
  swap->read(SwapSlot(8), in.span().subspan(4 * kPageBytes, kPageBytes), 3);
  swap->read(SwapSlot(7), in.span().subspan(5 * kPageBytes, 2 * kPageBytes), 4);
  swap->submit();
  auto done = wait_for(*swap, 3);
  EXPECT_EQ(done[2], IoStatus::kOk);
  EXPECT_EQ(done[3], IoStatus::kFailed);
  EXPECT_EQ(done[4], IoStatus::kFailed) << "short in the middle";
}

TEST(SwapFileNotices, SayWhatIsMissing) {
  TemporaryDirectory directory;
  auto made = SwapFile::create(directory.path(), "vm", pages_to_bytes(16), {false, false});
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_THAT((*made)->notices(), testing::Contains(HasSubstr("io_uring is not available")));
  EXPECT_THAT((*made)->notices(), testing::Contains(HasSubstr("no direct I/O")));
}

}  // namespace
}  // namespace ballast::linux_machine
