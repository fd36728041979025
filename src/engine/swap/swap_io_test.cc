// Swap through the whole pager: what the disk may do, and what the guest must never notice.
#include "engine/swap/swap_io.h"

#include "engine/engine_test_vm.h"

namespace ballast::engine {
namespace {

TestSetup swap_only(machine::sim::SimSwapOptions swap = {}) {
  TestSetup setup;
  setup.options.zip_enable = false;
  setup.swap = swap;
  return setup;
}

void stamp_some(TestVm& vm, uint32_t pages) {
  for (uint32_t page = 0; page < pages; ++page) vm.stamp(page, Kind::kRandom);
}

TEST(SwapIo, PagesWrittenTogetherLieTogether) {
  TestVm vm(swap_only());
  stamp_some(vm, 64);
  vm.reclaim_all();
  uint32_t followers = 0;
  for (uint32_t page = 1; page < 64; ++page) {
    ASSERT_EQ(vm.state(page), PageState::kSwapped);
    followers += *vm.entry(page).slot() == *vm.entry(page - 1).slot() + 1 ? 1 : 0;
  }
  EXPECT_GE(followers, 55u);
}

TEST(SwapIo, AWalkReadsAhead) {
  TestVm vm(swap_only());
  stamp_some(vm, 128);
  vm.reclaim_all();
  const uint64_t before = vm.pager->report().faults;
  for (uint32_t page = 0; page < 128; ++page) vm.check(page);
  EXPECT_LE(vm.pager->report().faults - before, 40u);
  EXPECT_EQ(vm.pager->report().swap_ins, 128u);
  vm.pager->audit();
}

TEST(SwapIo, AWriteFaultComesBackWritableItsFollowersSealed) {
  TestVm vm(swap_only());
  stamp_some(vm, 64);
  vm.reclaim_all();
  vm.stamp(10, Kind::kRandom, 2);
  vm.check(11);
  EXPECT_EQ(vm.state(10), PageState::kResident);
  EXPECT_EQ(vm.state(11), PageState::kSealed);
}

TEST(SwapIo, AFailedWriteKeepsThePagesAndReopensLater) {
  for (const bool full : {false, true}) {
    TestVm vm(swap_only(full ? machine::sim::SimSwapOptions{.no_space = 1000}
                             : machine::sim::SimSwapOptions{.failed_writes = 1000}));
    stamp_some(vm, 64);
    vm.reclaim_all();
    EXPECT_EQ(vm.memory.frames(), 64u);
    EXPECT_GE(vm.events("swap.write-failed"), 1u);
    EXPECT_NE(vm.control.events()[0].message.find(full ? "no space left" : "input/output error"),
              std::string::npos);
    EXPECT_FALSE(vm.control.frozen());
    vm.pager->audit();
    vm.check_all();
    vm.stamp(3, Kind::kRandom, 2);
    // The disk was repaired; within the backoff nothing is tried.
    vm.world.stop_faults();
    const uint64_t failures = vm.events("swap.write-failed");
    vm.world.advance(65 * kSecond);
    vm.reclaim_all();
    EXPECT_EQ(vm.memory.frames(), 0u);
    EXPECT_EQ(vm.events("swap.write-failed"), failures);
    EXPECT_EQ(vm.events("swap.recovered"), 1u);
    vm.pager->audit();
    vm.check_all();
  }
}

TEST(SwapIo, BackoffDoublesUpToAMinute) {
  TestVm vm(swap_only({.failed_writes = 1000}));
  stamp_some(vm, 16);
  vm.ledger->set_thresholds(0, hard_below(vm.ledger->budget() + 1));
  vm.set_target(0);
  std::vector<Nanoseconds> at;
  for (int i = 0; i < 40'000 && at.size() < 9; ++i) {
    vm.pump();
    vm.world.advance(10 * kMillisecond);
    if (vm.events("swap.write-failed") > at.size()) at.push_back(vm.world.peek());
  }
  ASSERT_EQ(at.size(), 9u);
  for (size_t i = 1; i < at.size(); ++i) {
    const double seconds = static_cast<double>(at[i] - at[i - 1]) / static_cast<double>(kSecond);
    EXPECT_NEAR(seconds, std::min(64.0, static_cast<double>(1u << (i - 1))), 0.2) << i;
  }
}

// Whatever the disk did to the bytes: the VM is frozen, the page stays lost, the guest sleeps.
void expect_lost(TestVm& vm, uint32_t page) {
  (void)vm.memory.touch(0, PageIndex(page), false);
  for (int i = 0; i < 300; ++i) vm.pump();
  EXPECT_TRUE(vm.memory.asleep(0));
  EXPECT_FALSE(vm.memory.present(PageIndex(page)));
  EXPECT_EQ(vm.state(page), PageState::kLost);
  EXPECT_TRUE(vm.control.frozen());
  EXPECT_EQ(vm.events("page.lost"), 1u);
  vm.pager->audit();
}

TEST(SwapIo, AnUnreadableSlotFreezesTheVmAndCanBeRetried) {
  TestVm vm(swap_only({.bad_slots = 1000}));
  stamp_some(vm, 1);
  vm.reclaim_all();
  ASSERT_EQ(vm.state(0), PageState::kSwapped);
  expect_lost(vm, 0);
  EXPECT_EQ(vm.control.events().back().message,
            "vm1 is paused: its page 0 cannot be read back from swap slot 0: input/output error. "
            "The VM was given nothing false. Repair the disk under the swap directory, then: "
            "ballast resume vm1");
  // Not repaired yet: lost again.
  EXPECT_EQ(vm.pager->retry_lost(), 1u);
  EXPECT_EQ(vm.state(0), PageState::kSwapped);
  EXPECT_FALSE(vm.memory.asleep(0));
  EXPECT_EQ(vm.memory.touch(0, PageIndex(0), false), nullptr);
  for (int i = 0; i < 300; ++i) vm.pump();
  EXPECT_EQ(vm.state(0), PageState::kLost);
  EXPECT_TRUE(vm.memory.asleep(0));
  vm.swap.repair();
  EXPECT_EQ(vm.pager->retry_lost(), 1u);
  vm.check(0);
  EXPECT_EQ(vm.pager->report().lost_pages, 0u);
  vm.pager->audit();
}

TEST(SwapIo, AWrongChecksumIsNeverGivenToTheGuest) {
  for (const auto& options : {machine::sim::SimSwapOptions{.flipped_bits = 1000},
                              machine::sim::SimSwapOptions{.torn_writes = 1000},
                              machine::sim::SimSwapOptions{.lost_writes = 1000}}) {
    TestVm vm(swap_only(options));
    stamp_some(vm, 1);
    vm.reclaim_all();
    ASSERT_EQ(vm.state(0), PageState::kSwapped);
    expect_lost(vm, 0);
    EXPECT_NE(vm.control.events().back().message.find("the bytes do not match their checksum"),
              std::string::npos);
  }
}

TEST(SwapIo, AReadThatFailsOnceIsTriedAgain) {
  TestVm vm(swap_only({.failed_reads = 300}));
  stamp_some(vm, 64);
  vm.reclaim_all();
  for (uint32_t page = 0; page < 64; page += 7) {
    vm.check(page);
    if (vm.state(page) == PageState::kLost) vm.pager->retry_lost();
  }
  vm.pager->audit();
}

TEST(SwapIo, ALostPageThatTheGuestGivesUpIsNoLongerLost) {
  TestVm vm(swap_only({.bad_slots = 1000}));
  stamp_some(vm, 1);
  vm.reclaim_all();
  expect_lost(vm, 0);
  vm.guest_discards(0);
  EXPECT_EQ(vm.state(0), PageState::kBallooned);
  EXPECT_EQ(vm.pager->report().lost_pages, 0u);
  vm.pager->audit();
}

// Two vCPUs walk side by side: one waits for the page that is read, the other for a page that is
// read ahead. When the read ahead is bad the second one must not sleep for ever.
TEST(SwapIo, ASleeperOnABadReadAheadPageIsWoken) {
  TestSetup setup = swap_only({.latency_min = kMillisecond, .latency_max = kMillisecond});
  setup.swap.failed_reads = 1000;
  TestVm vm(setup);
  stamp_some(vm, 64);
  vm.reclaim_all();
  for (uint32_t page = 0; page < 64; ++page) ASSERT_EQ(vm.state(page), PageState::kSwapped);
  vm.world.stop_faults();
  vm.check(0);
  vm.check(1);
  vm.check(3);  // the walk has a reach now
  const auto resident = [&](uint32_t page) { return vm.memory.present(PageIndex(page)); };
  uint32_t next = 4;
  while (resident(next)) ++next;
  // Damage the bytes of the read-ahead page only: its checksum in the tables.
  Tables tables = vm.tables();
  const SwapSlot slot = *vm.entry(next + 2).slot();
  const uint64_t right = tables.checksum(slot);
  tables.set_checksum(slot, right ^ 1);
  ASSERT_EQ(vm.memory.touch(0, PageIndex(next), false), nullptr);
  vm.pager->handle(vm.memory.take_faults(64));
  ASSERT_EQ(vm.memory.touch(1, PageIndex(next + 2), false), nullptr);
  vm.pager->handle(vm.memory.take_faults(64));
  vm.world.advance(2 * kMillisecond);
  vm.pager->poll_io();
  EXPECT_TRUE(resident(next));
  EXPECT_FALSE(resident(next + 2));
  tables.set_checksum(slot, right);  // it was a passing fault
  for (int i = 0; i < 500 && !resident(next + 2); ++i) {
    if (!vm.memory.asleep(1)) (void)vm.memory.touch(1, PageIndex(next + 2), false);
    vm.pump();
  }
  EXPECT_TRUE(resident(next + 2)) << "the second vCPU sleeps for ever";
  vm.pager->audit();
}

// When every slot holds a page that is nowhere else, there is nothing to add: the reclaimer must
// see that instead of copying pages for nothing.
TEST(SwapIo, AFullSwapFileTakesNoMorePages) {
  TestVm outer({.pages = 64, .min_pages = 56});
  Ledger ledger(64 << 20);
  machine::sim::SimGuestMemory memory(outer.world, 1, {.page_count = 64});
  const PagerParts parts{memory,      outer.swap, outer.store, outer.control,
                         outer.world, ledger,     {},          1};
  Vm vm(outer.spec, parts, Tables::format(outer.store.tables(), 64, 8, 1));
  vm.counts[0] = 64;
  ActiveSampler sampler(vm);
  SwapIo io(vm);
  std::vector<std::byte> bytes(kPageBytes, std::byte{7});
  const PageBytes page{bytes.data(), kPageBytes};
  ASSERT_EQ(vm.charge_frames(64), 64u);
  for (uint32_t i = 0; i < 64; ++i) {
    ASSERT_EQ(memory.install(PageRun{PageIndex(i), 1}, page, machine::Sealing::kSealed).installed,
              1u);
    vm.set(PageIndex(i), PageEntry::plain(PageState::kResident));
    vm.set(PageIndex(i), PageEntry::plain(PageState::kSealed));
  }
  for (uint32_t i = 0; i < 8; ++i) EXPECT_TRUE(io.add(PageIndex(i), page)) << i;
  EXPECT_FALSE(io.can_add());
  EXPECT_FALSE(io.add(PageIndex(8), page));
  io.flush();
  for (int i = 0; i < 100 && io.busy(); ++i) {
    outer.world.advance(kMillisecond);
    io.poll();
  }
  EXPECT_EQ(vm.count(PageState::kSwapped), 8u);
  EXPECT_FALSE(io.can_add());
  // One comes back and keeps its copy: its slot can be had.
  ASSERT_EQ(io.start_read(PageIndex(3), true, 1), SwapIo::ReadStart::kStarted);
  for (int i = 0; i < 100 && io.busy(); ++i) {
    outer.world.advance(kMillisecond);
    io.poll();
  }
  ASSERT_EQ(vm.state(PageIndex(3)), PageState::kResident);
  EXPECT_TRUE(io.can_add());
  EXPECT_TRUE(io.add(PageIndex(20), page));
  io.flush();
  for (int i = 0; i < 100 && io.busy(); ++i) {
    outer.world.advance(kMillisecond);
    io.poll();
  }
  EXPECT_EQ(vm.state(PageIndex(20)), PageState::kSwapped);
  EXPECT_FALSE(vm.get(PageIndex(3)).slot());
  vm.uncharge_frames(vm.charged_frames);
  ledger.uncharge(vm.overhead_bytes);
}

}  // namespace
}  // namespace ballast::engine
