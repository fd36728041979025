// UffdMemory against the kernel: what the contract suite cannot see, such as regions and
// descriptors going bad.
#include "machine/linux/uffd_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "machine/linux/test_guest.h"

namespace ballast::linux_machine {
namespace {

using machine::Fault;
using machine::FaultKind;
using machine::InstallStop;
using machine::MemoryResult;
using machine::Remapped;
using machine::Sealing;

PageRun run(uint32_t first, uint32_t count) { return {PageIndex(first), count}; }

class UffdMemoryTest : public testing::Test {
 protected:
  static constexpr uint32_t kFirst = 40;
  static constexpr uint32_t kSecond = 70;

  void SetUp() override {
    std::string why_not;
    guest_ = TestGuest::make({kFirst, kSecond}, why_not);
    if (!guest_) GTEST_SKIP() << why_not;
    memory_ = guest_->open_memory();
  }
  // Page i filled with byte value + i.
  static std::vector<std::byte> pattern(uint32_t pages, int value) {
    std::vector<std::byte> bytes(pages_to_bytes(pages));
    for (uint32_t i = 0; i < pages; ++i) {
      std::memset(&bytes[pages_to_bytes(i)], value + static_cast<int>(i), kPageBytes);
    }
    return bytes;
  }
  // A read that the compiler may not move or drop.
  int load(uint32_t page) { return *reinterpret_cast<volatile uint8_t*>(guest_->page(page)); }
  std::vector<Fault> wait_faults(size_t count) {
    std::vector<Fault> all;
    std::array<Fault, 8> some;
    for (int i = 0; i < 200 && all.size() < count; ++i) {
      pollfd watch{memory_->fault_fd(), POLLIN, 0};
      ::poll(&watch, 1, 10);
      const size_t got = memory_->read_faults(some);
      all.insert(all.end(), some.begin(), some.begin() + static_cast<ptrdiff_t>(got));
    }
    return all;
  }

  std::unique_ptr<TestGuest> guest_;
  std::unique_ptr<UffdMemory> memory_;
};

TEST_F(UffdMemoryTest, RunsCrossRegionBorders) {
  const auto contents = pattern(20, 1);
  const auto result = memory_->install(run(30, 20), contents, Sealing::kWritable);
  EXPECT_EQ(result.installed, 20u);
  EXPECT_EQ(result.stop, InstallStop::kDone);
  for (uint32_t i = 0; i < 20; ++i) EXPECT_EQ(*guest_->page(30 + i), std::byte(1 + i));
  std::vector<std::byte> back(contents.size());
  ASSERT_EQ(memory_->read(run(30, 20), back), MemoryResult::kOk);
  EXPECT_EQ(back, contents);
  std::vector<PageRun> present;
  ASSERT_EQ(memory_->find_present(run(0, 110), present), MemoryResult::kOk);
  EXPECT_EQ(present, std::vector<PageRun>{run(30, 20)}) << "runs are joined across regions";
  ASSERT_EQ(memory_->seal(run(30, 20)), MemoryResult::kOk);
  ASSERT_EQ(memory_->unseal(run(30, 20)), MemoryResult::kOk);
  ASSERT_EQ(memory_->discard(run(38, 4)), MemoryResult::kOk);
  present.clear();
  ASSERT_EQ(memory_->find_present(run(0, 110), present), MemoryResult::kOk);
  EXPECT_EQ(present, (std::vector<PageRun>{run(30, 8), run(42, 8)}));
}

TEST_F(UffdMemoryTest, PartialInstallStopsAtThePresentPage) {
  ASSERT_EQ(memory_->install_zero(run(44, 1)).installed, 1u);
  const auto result = memory_->install(run(36, 16), pattern(16, 5), Sealing::kSealed);
  EXPECT_EQ(result.installed, 8u);
  EXPECT_EQ(result.stop, InstallStop::kAlreadyPresent);
  const auto zeros = memory_->install_zero(run(45, 30));
  EXPECT_EQ(zeros.installed, 30u);
  const auto again = memory_->install_zero(run(30, 20));
  EXPECT_EQ(again.installed, 6u);
  EXPECT_EQ(again.stop, InstallStop::kAlreadyPresent);
}

TEST_F(UffdMemoryTest, FaultsNameTheirPageInBothRegions) {
  std::thread vcpu([&] {
    *guest_->page(3) = std::byte{1};
    EXPECT_EQ(load(kFirst + 60), 0);
  });
  auto faults = wait_faults(1);
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults[0].page, PageIndex(3));
  EXPECT_EQ(faults[0].kind, FaultKind::kMissing);
  EXPECT_TRUE(faults[0].write);
  EXPECT_NE(memory_->last_fault_thread(), 0u);
  EXPECT_NE(memory_->last_fault_thread(), static_cast<uint32_t>(::gettid()));
  EXPECT_EQ(memory_->install_zero(run(0, 16)).installed, 16u);
  faults = wait_faults(1);
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults[0].page, PageIndex(kFirst + 60));
  EXPECT_FALSE(faults[0].write);
  EXPECT_EQ(memory_->install_zero(run(kFirst + 60, 1)).installed, 1u);
  vcpu.join();
  EXPECT_EQ(memory_->unknown_faults(), 0u);
}

TEST_F(UffdMemoryTest, SeveralFaultsInOneRead) {
  std::vector<std::thread> vcpus;
  for (uint32_t i = 0; i < 4; ++i) {
    vcpus.emplace_back([this, i] { *guest_->page(10 * i) = std::byte{7}; });
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(wait_faults(4).size(), 4u);
  EXPECT_EQ(memory_->install_zero(run(0, 40)).installed, 40u);
  for (auto& vcpu : vcpus) vcpu.join();
}

TEST_F(UffdMemoryTest, ReadingFaultsNeverWaits) {
  // A VM may clear O_NONBLOCK on its own copy of the descriptor: it is one open file description.
  ASSERT_EQ(::fcntl(guest_->uffd(), F_SETFL, 0), 0);
  std::array<Fault, 4> faults;
  EXPECT_EQ(memory_->read_faults(faults), 0u);  // hangs on kernels before 6.11
}

TEST_F(UffdMemoryTest, WakeAllMakesLostFaultsComeBack) {
  std::thread vcpu([&] { *guest_->page(50) = std::byte{9}; });
  ASSERT_EQ(wait_faults(1).size(), 1u);  // read by a daemon that then died
  memory_ = guest_->open_memory();
  ASSERT_EQ(memory_->wake_all(), MemoryResult::kOk);
  const auto faults = wait_faults(1);
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults[0].page, PageIndex(50));
  EXPECT_EQ(memory_->install_zero(run(50, 1)).installed, 1u);
  vcpu.join();
}

TEST_F(UffdMemoryTest, CleanTrackingSeesTheFirstWriteOnly) {
  ASSERT_EQ(memory_->install(run(5, 2), pattern(2, 1), Sealing::kSealed).installed, 2u);
  std::thread vcpu([&] {
    EXPECT_EQ(load(5), 1);
    *guest_->page(6) = std::byte{3};
    *guest_->page(6) = std::byte{4};
  });
  const auto faults = wait_faults(1);
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults[0].page, PageIndex(6));
  EXPECT_EQ(faults[0].kind, FaultKind::kSealed);
  ASSERT_EQ(memory_->unseal(run(6, 1)), MemoryResult::kOk);
  vcpu.join();
  EXPECT_EQ(*guest_->page(6), std::byte{4});
  std::array<Fault, 4> none;
  EXPECT_EQ(memory_->read_faults(none), 0u);
}

TEST_F(UffdMemoryTest, EvictionUnderFireLosesNothing) {
  // Two pages incremented by a vCPU for as long as the worker evicts and restores them.
  ASSERT_EQ(memory_->install_zero(run(39, 2)).installed, 2u);
  std::atomic<bool> stop{false};
  uint64_t written = 0;
  std::thread vcpu([&] {
    auto* a = reinterpret_cast<volatile uint64_t*>(guest_->page(39));
    auto* b = reinterpret_cast<volatile uint64_t*>(guest_->page(40));
    while (!stop) {
      *a = *a + 1;
      *b = *b + 1;
      ++written;
    }
  });
  std::vector<std::byte> stored(pages_to_bytes(2));
  for (int round = 0; round < 2000; ++round) {
    ASSERT_EQ(memory_->seal(run(39, 2)), MemoryResult::kOk);
    ASSERT_EQ(memory_->read(run(39, 2), stored), MemoryResult::kOk);
    ASSERT_EQ(memory_->discard(run(39, 2)), MemoryResult::kOk);
    ASSERT_EQ(memory_->install(run(39, 2), stored, Sealing::kWritable).installed, 2u);
    ASSERT_EQ(memory_->wake(run(39, 2)), MemoryResult::kOk);
    std::array<Fault, 8> stale;
    (void)memory_->read_faults(stale);
  }
  stop = true;
  vcpu.join();
  uint64_t a = 0;
  uint64_t b = 0;
  std::memcpy(&a, guest_->page(39), 8);
  std::memcpy(&b, guest_->page(40), 8);
  EXPECT_EQ(a, written);
  EXPECT_EQ(b, written);
}

TEST_F(UffdMemoryTest, ReservedButUnwrittenFramesAreHoles) {
  ASSERT_EQ(::fallocate(guest_->pieces()[0].file.get(), 0, 0, 8 * kPageBytes), 0);
  std::vector<PageRun> present;
  ASSERT_EQ(memory_->find_present(run(0, 20), present), MemoryResult::kOk);
  EXPECT_TRUE(present.empty());
}

TEST_F(UffdMemoryTest, UnalignedVmasDoNotStopARun) {
  // The VM splits its own mapping; a COPY may not cross the border.
  ASSERT_EQ(::madvise(guest_->page(8), 4 * kPageBytes, MADV_DONTDUMP), 0);
  EXPECT_EQ(memory_->install(run(0, 20), pattern(20, 1), Sealing::kWritable).installed, 20u);
  EXPECT_EQ(memory_->install_zero(run(20, 20)).stop, InstallStop::kDone);
  ASSERT_EQ(memory_->discard(run(0, 40)), MemoryResult::kOk);
  EXPECT_EQ(memory_->install_zero(run(0, 40)).installed, 40u);
  EXPECT_EQ(memory_->seal(run(0, 40)), MemoryResult::kOk);
}

TEST_F(UffdMemoryTest, TruncatedRamFileIsGone) {
  ASSERT_EQ(::ftruncate(guest_->pieces()[1].file.get(), 0), 0);
  std::vector<std::byte> bytes(pages_to_bytes(4));
  EXPECT_EQ(memory_->read(run(kFirst - 2, 4), bytes), MemoryResult::kGone);
  EXPECT_NE(memory_->last_error().find("truncated"), std::string::npos);
}

TEST_F(UffdMemoryTest, UnmappedRegionIsGone) {
  ASSERT_EQ(::munmap(guest_->page(0), pages_to_bytes(kFirst)), 0);
  EXPECT_EQ(memory_->install_zero(run(0, 8)).stop, InstallStop::kGone);
  EXPECT_EQ(memory_->seal(run(0, 8)), MemoryResult::kGone);
}

TEST_F(UffdMemoryTest, RegionsMayArriveLater) {
  UffdMemory::Parts parts;
  parts.uffd = duplicate(guest_->uffd());
  parts.pages = kFirst + kSecond;
  parts.discards = duplicate(guest_->discards());
  const auto& pieces = guest_->pieces();
  parts.regions = {{reinterpret_cast<uint64_t>(pieces[0].address), pages_to_bytes(kFirst),
                    pieces[0].file.get(), 0}};
  auto memory = UffdMemory::create(std::move(parts)).value();
  const auto early = memory->install_zero(run(kFirst - 2, 6));
  EXPECT_EQ(early.installed, 2u);
  EXPECT_EQ(early.stop, InstallStop::kRetry);
  std::vector<std::byte> bytes(pages_to_bytes(4), std::byte{1});
  ASSERT_EQ(memory->read(run(kFirst, 4), bytes), MemoryResult::kOk);
  EXPECT_EQ(bytes, std::vector<std::byte>(pages_to_bytes(4)));
  EXPECT_FALSE(memory->can_sample());
  UniqueFd file = duplicate(pieces[1].file.get());
  const Region region{reinterpret_cast<uint64_t>(pieces[1].address), pages_to_bytes(kSecond),
                      file.get(), 0};
  memory->add_region(region, std::move(file));
  EXPECT_EQ(memory->install_zero(run(kFirst, 4)).installed, 4u);
}

TEST_F(UffdMemoryTest, SamplingCrossesRegions) {
  if (!memory_->can_sample()) GTEST_SKIP() << "/proc/self/pagemap cannot be opened";
  ASSERT_EQ(memory_->install_zero(run(30, 80)).installed, 80u);
  for (uint32_t i = 30; i < 110; ++i) *guest_->page(i) = std::byte{1};
  const std::array<PageRun, 2> sampled{run(35, 10), run(100, 5)};
  EXPECT_TRUE(memory_->start_sample(sampled));
  *guest_->page(41) = std::byte{2};
  std::array<uint64_t, 2> bits{};
  ASSERT_EQ(memory_->touched(run(30, 80), bits), MemoryResult::kOk);
  for (uint32_t i = 0; i < 80; ++i) {
    const uint32_t page = 30 + i;
    const bool zapped =
        sampled[0].contains(PageIndex(page)) || sampled[1].contains(PageIndex(page));
    const bool expected = !zapped || page == 41;
    EXPECT_EQ((bits[i / 64] >> (i % 64)) & 1, expected ? 1u : 0u) << page;
  }
}

TEST_F(UffdMemoryTest, DiscardBitsAreTheSharedOnes) {
  uint64_t word = 0b101;
  ASSERT_EQ(::pwrite(guest_->discards(), &word, 8, kDiscardHeaderBytes + 8), 8);
  const uint32_t pending = 1;
  ASSERT_EQ(::pwrite(guest_->discards(), &pending, 4, 0), 4);
  memory_->begin_discards();
  DiscardHeader header{};
  ASSERT_EQ(::pread(guest_->discards(), &header, sizeof(header), 0), ssize_t{sizeof(header)});
  EXPECT_EQ(header.pending, 0u);
  EXPECT_EQ(memory_->discard_bits().size(), 2u);
  EXPECT_EQ(memory_->discard_bits()[1].exchange(0), 0b101u);
}

TEST_F(UffdMemoryTest, RemappingsBecomeAddresses) {
  EXPECT_FALSE(memory_->can_share());
  std::vector<AgentShareRange> shared;
  std::vector<AgentRange> came;
  memory_ = guest_->open_memory({[&](std::span<const AgentShareRange> ranges) {
                                   shared.assign(ranges.begin(), ranges.end());
                                   return true;
                                 },
                                 [&](std::span<const AgentRange> ranges) {
                                   came.assign(ranges.begin(), ranges.end());
                                   return true;
                                 }});
  if (!memory_->can_share()) GTEST_SKIP() << "/proc/self/pagemap cannot be opened";
  const auto at = [&](uint32_t page) { return reinterpret_cast<uint64_t>(guest_->page(page)); };
  ASSERT_EQ(memory_->install_zero(run(kFirst, 3)).installed, 3u);
  ASSERT_TRUE(memory_->start_share(run(kFirst, 3), FrameIndex(7)));
  ASSERT_TRUE(memory_->start_share(run(38, 4), FrameIndex(20))) << "refused: two regions";
  ASSERT_TRUE(memory_->start_home(run(38, 4)));
  Remapped end;
  EXPECT_FALSE(memory_->poll_remapped(end));
  ASSERT_EQ(shared.size(), 1u);
  EXPECT_EQ(shared[0].address, at(kFirst));
  EXPECT_EQ(shared[0].bytes, 3 * kPageBytes);
  EXPECT_EQ(shared[0].pool_offset, 7 * kPageBytes);
  ASSERT_EQ(came.size(), 2u);
  EXPECT_EQ(came[0].address, at(38));
  EXPECT_EQ(came[1].address, at(kFirst));
  EXPECT_EQ(came[1].bytes, 2 * kPageBytes);
  // The agent's part, with a write to the second page before any protection.
  UniqueFd pool(::memfd_create("pool", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(pool.get(), 16 * kPageBytes), 0);
  ASSERT_NE(::mmap(guest_->page(kFirst), 3 * kPageBytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_FIXED, pool.get(), 0),
            MAP_FAILED);
  EXPECT_EQ(load(kFirst) + load(kFirst + 2), 0);
  *guest_->page(kFirst + 1) = std::byte{1};
  const std::array<uint32_t, 3> good{};
  memory_->take_remapped(std::span(good).first(1));
  ASSERT_TRUE(memory_->poll_remapped(end));
  EXPECT_EQ(end.run, run(kFirst, 3));
  EXPECT_TRUE(end.done);
  EXPECT_EQ(end.written, 0b010u);
  ASSERT_TRUE(memory_->poll_remapped(end));
  EXPECT_EQ(end.run, run(38, 4));
  EXPECT_FALSE(end.done);
  memory_->take_remapped(std::span(good).first(1));
  EXPECT_FALSE(memory_->poll_remapped(end)) << "half of it";
  memory_->take_remapped(std::span(good).first(1));
  ASSERT_TRUE(memory_->poll_remapped(end));
  EXPECT_EQ(end.kind, Remapped::Kind::kHome);
  EXPECT_TRUE(end.done);
}

TEST(UffdMemoryCreate, RefusesAShortBitmap) {
  UffdMemory::Parts parts;
  parts.pages = 1 << 20;
  parts.discards.reset(::memfd_create("short", MFD_CLOEXEC));
  EXPECT_FALSE(UffdMemory::create(std::move(parts)).has_value());
}

}  // namespace
}  // namespace ballast::linux_machine
