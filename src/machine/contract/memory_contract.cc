// The promises of machine/guest_memory.h.
#include <gtest/gtest.h>

#include <vector>

#include "machine/contract/memory_fixture.h"

namespace ballast::machine::contract {
namespace {

class GuestMemoryContract : public MemoryFixture {
 protected:
  void SetUp() override {
    std::string why_not;
    machine_ = make_memory(why_not);
    if (!machine_) GTEST_SKIP() << why_not;
  }
};

TEST_F(GuestMemoryContract, StartsAsHolesAndReadingKeepsThem) {
  EXPECT_EQ(memory().page_count(), kPages);
  EXPECT_EQ(peek(PageIndex(0)), 0u);
  EXPECT_EQ(peek(PageIndex(kPages - 1)), 0u);
  EXPECT_TRUE(present().empty());
}

TEST_F(GuestMemoryContract, TouchOfAHoleSleepsUntilInstalled) {
  machine_->begin_read(0, PageIndex(5));
  expect_fault(PageIndex(5), FaultKind::kMissing);
  EXPECT_TRUE(machine_->sleeps(0));
  must_install({PageIndex(4), 2}, pages_of({40, 50}));
  ASSERT_TRUE(machine_->ends(0));
  EXPECT_EQ(machine_->value_read(0), 50u);
  EXPECT_EQ(present(), (std::vector<PageRun>{{PageIndex(4), 2}}));
}

TEST_F(GuestMemoryContract, WriteToAHoleIsMissingToo) {
  machine_->begin_write(0, PageIndex(7), 77);
  expect_fault(PageIndex(7), FaultKind::kMissing);
  must_install_zero({PageIndex(7), 1});
  ASSERT_TRUE(machine_->ends(0));
  EXPECT_EQ(peek(PageIndex(7)), 77u);
}

TEST_F(GuestMemoryContract, InstalledZerosAreZerosAndWritable) {
  must_install_zero({PageIndex(10), 3});
  expect_read(0, PageIndex(12), 0);
  machine_->begin_write(0, PageIndex(11), 11);
  ASSERT_TRUE(machine_->ends(0));
  EXPECT_EQ(peek(PageIndex(11)), 11u);
}

TEST_F(GuestMemoryContract, InstallOfTheWholeVm) {
  std::vector<std::byte> contents(size_t{kPages} * kPageBytes, std::byte{1});
  must_install({PageIndex(0), kPages}, contents);
  std::vector<std::byte> read(contents.size());
  ASSERT_EQ(memory().read({PageIndex(0), kPages}, read), MemoryResult::kOk);
  EXPECT_EQ(read, contents);
  EXPECT_EQ(present(), (std::vector<PageRun>{{PageIndex(0), kPages}}));
  ASSERT_EQ(memory().discard({PageIndex(0), kPages}), MemoryResult::kOk);
  EXPECT_TRUE(present().empty());
}

TEST_F(GuestMemoryContract, InstallStopsAtAPresentPageAndKeepsItsBytes) {
  must_install({PageIndex(22), 1}, pages_of({9}));
  const auto contents = pages_of({1, 2, 3, 4});
  uint32_t installed = 0;
  InstallResult result;
  do {
    result = memory().install({PageIndex(20 + installed), 4 - installed},
                              std::span(contents).subspan(size_t{installed} * kPageBytes),
                              Sealing::kWritable);
    installed += result.installed;
  } while (result.stop == InstallStop::kRetry);
  EXPECT_EQ(result.stop, InstallStop::kAlreadyPresent);
  EXPECT_EQ(installed, 2u);
  EXPECT_EQ(peek(PageIndex(21)), 2u);
  EXPECT_EQ(peek(PageIndex(22)), 9u);
  EXPECT_EQ(peek(PageIndex(23)), 0u);

  const auto zeroed = memory().install_zero({PageIndex(22), 1});
  EXPECT_EQ(zeroed.stop, InstallStop::kAlreadyPresent);
  EXPECT_EQ(zeroed.installed, 0u);
  EXPECT_EQ(peek(PageIndex(22)), 9u);
}

TEST_F(GuestMemoryContract, SealedPagesReadButTrapWrites) {
  must_install({PageIndex(30), 2}, pages_of({300, 310}));
  ASSERT_EQ(memory().seal({PageIndex(30), 2}), MemoryResult::kOk);
  expect_read(0, PageIndex(31), 310);
  machine_->begin_write(0, PageIndex(31), 1);
  expect_fault(PageIndex(31), FaultKind::kSealed);
  EXPECT_TRUE(machine_->sleeps(0));
  EXPECT_EQ(peek(PageIndex(31)), 310u);
  ASSERT_EQ(memory().unseal({PageIndex(31), 1}), MemoryResult::kOk);
  ASSERT_TRUE(machine_->ends(0));
  EXPECT_EQ(peek(PageIndex(31)), 1u);
}

TEST_F(GuestMemoryContract, SealedInstallTrapsTheFirstWrite) {
  must_install({PageIndex(33), 2}, pages_of({5, 6}), Sealing::kSealed);
  expect_read(1, PageIndex(33), 5);
  machine_->begin_write(0, PageIndex(34), 7);
  expect_fault(PageIndex(34), FaultKind::kSealed);
  ASSERT_EQ(memory().unseal({PageIndex(33), 2}), MemoryResult::kOk);
  ASSERT_TRUE(machine_->ends(0));
  EXPECT_EQ(peek(PageIndex(34)), 7u);
}

TEST_F(GuestMemoryContract, SealCoversPagesThatTheGuestNeverTouched) {
  // Present in the file, but never mapped by the guest: the seal must still hold.
  must_install({PageIndex(60), 16}, std::vector<std::byte>(16 * kPageBytes, std::byte{2}));
  ASSERT_EQ(memory().seal({PageIndex(50), 40}), MemoryResult::kOk);
  machine_->begin_write(0, PageIndex(66), 1);
  expect_fault(PageIndex(66), FaultKind::kSealed);
  ASSERT_EQ(memory().unseal({PageIndex(50), 40}), MemoryResult::kOk);
  ASSERT_TRUE(machine_->ends(0));
}

TEST_F(GuestMemoryContract, InstallOverwritesAMarkOnAHole) {
  ASSERT_EQ(memory().seal({PageIndex(36), 2}), MemoryResult::kOk);
  machine_->begin_write(0, PageIndex(36), 8);
  expect_fault(PageIndex(36), FaultKind::kMissing);
  must_install_zero({PageIndex(36), 1});
  ASSERT_TRUE(machine_->ends(0));
  must_install({PageIndex(37), 1}, pages_of({1}));
  machine_->begin_write(0, PageIndex(37), 9);
  ASSERT_TRUE(machine_->ends(0));
  EXPECT_EQ(peek(PageIndex(37)), 9u);
}

TEST_F(GuestMemoryContract, DiscardFreesAndTheNextTouchIsMissing) {
  must_install({PageIndex(40), 3}, pages_of({1, 2, 3}));
  ASSERT_EQ(memory().discard({PageIndex(41), 1}), MemoryResult::kOk);
  EXPECT_EQ(present(), (std::vector<PageRun>{{PageIndex(40), 1}, {PageIndex(42), 1}}));
  EXPECT_EQ(peek(PageIndex(41)), 0u);
  machine_->begin_read(0, PageIndex(41));
  expect_fault(PageIndex(41), FaultKind::kMissing);
  must_install_zero({PageIndex(41), 1});
  ASSERT_TRUE(machine_->ends(0));
  EXPECT_EQ(machine_->value_read(0), 0u);
}

TEST_F(GuestMemoryContract, AWriterCaughtByEvictionComesBackAsMissing) {
  must_install({PageIndex(45), 1}, pages_of({450}));
  ASSERT_EQ(memory().seal({PageIndex(45), 1}), MemoryResult::kOk);
  machine_->begin_write(0, PageIndex(45), 1);
  expect_fault(PageIndex(45), FaultKind::kSealed);
  ASSERT_EQ(memory().discard({PageIndex(45), 1}), MemoryResult::kOk);
  EXPECT_TRUE(machine_->sleeps(0));
  ASSERT_EQ(memory().wake({PageIndex(45), 1}), MemoryResult::kOk);
  expect_fault(PageIndex(45), FaultKind::kMissing);
  must_install({PageIndex(45), 1}, pages_of({450}));
  ASSERT_TRUE(machine_->ends(0));
  EXPECT_EQ(peek(PageIndex(45)), 1u);
}

TEST_F(GuestMemoryContract, WakeMakesSleepersTryAgain) {
  machine_->begin_read(0, PageIndex(48));
  expect_fault(PageIndex(48), FaultKind::kMissing);
  ASSERT_EQ(memory().wake({PageIndex(0), kPages}), MemoryResult::kOk);
  expect_fault(PageIndex(48), FaultKind::kMissing);
  EXPECT_TRUE(machine_->sleeps(0));
  must_install_zero({PageIndex(48), 1});
  ASSERT_TRUE(machine_->ends(0));
}

TEST_F(GuestMemoryContract, OneInstallWakesEverySleeperOfThePage) {
  machine_->begin_read(0, PageIndex(49));
  machine_->begin_read(1, PageIndex(49));
  expect_fault(PageIndex(49), FaultKind::kMissing);
  EXPECT_TRUE(machine_->sleeps(1));
  must_install({PageIndex(49), 1}, pages_of({49}));
  ASSERT_TRUE(machine_->ends(0));
  ASSERT_TRUE(machine_->ends(1));
  EXPECT_EQ(machine_->value_read(0), 49u);
  EXPECT_EQ(machine_->value_read(1), 49u);
}

TEST_F(GuestMemoryContract, AlreadyPresentDoesNotWakeASealedWriter) {
  must_install({PageIndex(52), 1}, pages_of({1}), Sealing::kSealed);
  machine_->begin_write(0, PageIndex(52), 2);
  expect_fault(PageIndex(52), FaultKind::kSealed);
  EXPECT_EQ(memory().install({PageIndex(52), 1}, pages_of({3}), Sealing::kWritable).stop,
            InstallStop::kAlreadyPresent);
  EXPECT_TRUE(machine_->sleeps(0));
  ASSERT_EQ(memory().unseal({PageIndex(52), 1}), MemoryResult::kOk);
  ASSERT_TRUE(machine_->ends(0));
  EXPECT_EQ(peek(PageIndex(52)), 2u);
}

TEST_F(GuestMemoryContract, FindPresentGivesMaximalRunsWithinTheAskedRange) {
  must_install_zero({PageIndex(100), 4});
  must_install_zero({PageIndex(104), 4});
  must_install_zero({PageIndex(110), 1});
  std::vector<PageRun> runs = {{PageIndex(1), 1}};  // appended to
  ASSERT_EQ(memory().find_present({PageIndex(102), 9}, runs), MemoryResult::kOk);
  EXPECT_EQ(runs,
            (std::vector<PageRun>{{PageIndex(1), 1}, {PageIndex(102), 6}, {PageIndex(110), 1}}));
}

TEST_F(GuestMemoryContract, GuestDiscardFreesTheFrameAndSetsTheBit) {
  must_install({PageIndex(70), 1}, pages_of({7}));
  auto bits = memory().discard_bits();
  ASSERT_GE(bits.size() * 64, kPages);
  for (const auto& word : bits) EXPECT_EQ(word.load(), 0u);
  machine_->guest_discards(PageIndex(70));
  EXPECT_EQ(bits[1].exchange(0), uint64_t{1} << 6);
  EXPECT_TRUE(present().empty());
  machine_->begin_read(0, PageIndex(70));
  expect_fault(PageIndex(70), FaultKind::kMissing);
  must_install_zero({PageIndex(70), 1});
  ASSERT_TRUE(machine_->ends(0));
}

TEST_F(GuestMemoryContract, SamplingTellsTouchedPagesFromUntouched) {
  if (!memory().can_sample()) GTEST_SKIP() << "this machine has no access sampling";
  must_install_zero({PageIndex(80), 4});
  for (uint32_t i = 0; i < 4; ++i) expect_read(0, PageIndex(80 + i), 0);
  uint64_t bits = 0;
  ASSERT_EQ(memory().touched({PageIndex(80), 4}, {&bits, 1}), MemoryResult::kOk);
  EXPECT_EQ(bits & 0xf, 0xfu) << "a page without a sample counts as touched";
  const PageRun sampled{PageIndex(80), 3};
  sample(sampled);
  expect_read(0, PageIndex(81), 0);
  ASSERT_EQ(memory().touched({PageIndex(80), 4}, {&bits, 1}), MemoryResult::kOk);
  EXPECT_EQ(bits & 0xf, 0xau);
}

// Kernels map the neighbours of a touched file page along with it, unless they are kept from it.
TEST_F(GuestMemoryContract, ATouchedPageDoesNotMakeItsNeighboursLookTouched) {
  if (!memory().can_sample()) GTEST_SKIP() << "this machine has no access sampling";
  const PageRun sampled{PageIndex(128), 64};
  must_install_zero(sampled);
  for (uint32_t i = 0; i < sampled.count; ++i) expect_read(0, sampled.first + i, 0);
  sample(sampled);
  expect_read(0, sampled.first + 20, 0);
  uint64_t bits = 0;
  ASSERT_EQ(memory().touched(sampled, {&bits, 1}), MemoryResult::kOk);
  EXPECT_EQ(bits, uint64_t{1} << 20);
  machine_->begin_write(0, sampled.first + 40, 7);
  ASSERT_TRUE(machine_->ends(0));
  ASSERT_EQ(memory().touched(sampled, {&bits, 1}), MemoryResult::kOk);
  EXPECT_EQ(bits, uint64_t{1} << 20 | uint64_t{1} << 40);
}

TEST_F(GuestMemoryContract, SamplingASealedPageKeepsItSealed) {
  if (!memory().can_sample()) GTEST_SKIP() << "this machine has no access sampling";
  const PageRun sampled{PageIndex(140), 2};
  must_install_zero(sampled);
  ASSERT_EQ(memory().seal(sampled), MemoryResult::kOk);
  sample(sampled);
  expect_read(0, PageIndex(140), 0);
  uint64_t bits = 0;
  ASSERT_EQ(memory().touched(sampled, {&bits, 1}), MemoryResult::kOk);
  EXPECT_EQ(bits & 0x3, 0x1u);
  machine_->begin_write(0, PageIndex(141), 7);
  expect_fault(PageIndex(141), FaultKind::kSealed);
  ASSERT_EQ(memory().unseal(sampled), MemoryResult::kOk);
  ASSERT_TRUE(machine_->ends(0));
}

}  // namespace
}  // namespace ballast::machine::contract
