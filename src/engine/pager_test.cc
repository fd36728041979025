#include "engine/pager.h"

#include <set>

#include "engine/engine_test_vm.h"

namespace ballast::engine {
namespace {

using machine::Fault;
using machine::FaultKind;

Options without_zip() {
  Options options;
  options.zip_enable = false;
  return options;
}

TEST(Pager, AFirstTouchReadsAsZeroAndBringsNeighbours) {
  TestVm vm;
  vm.check(40);
  EXPECT_EQ(vm.state(40), PageState::kResident);
  EXPECT_EQ(vm.pager->report().first_touches, 16u);
  EXPECT_EQ(vm.memory.frames(), 16u);
  EXPECT_EQ(vm.pager->report().faults, 1u);
  vm.pager->audit();
}

TEST(Pager, AWalkIsServedInGrowingRuns) {
  TestVm vm({.pages = 1024});
  for (uint32_t page = 0; page < 1024; ++page) vm.check(page);
  EXPECT_LE(vm.pager->report().faults, 20u);
  vm.pager->audit();
}

TEST(Pager, OverheadAndFramesAreCharged) {
  TestVm vm;
  const uint64_t overhead = Pager::overhead_bytes(256);
  EXPECT_EQ(vm.ledger->consumed(), overhead);
  vm.check(0);
  EXPECT_EQ(vm.ledger->consumed(), overhead + pages_to_bytes(vm.memory.frames()));
  EXPECT_EQ(vm.consumed(), vm.ledger->consumed());
  vm.pager.reset();
  EXPECT_EQ(vm.ledger->consumed(), 0u);
}

TEST(Pager, AVmWhoseTablesDoNotFitIsRefused) {
  TestVm vm;
  Ledger poor(100'000);
  PagerParts parts{vm.memory, vm.swap, vm.store, vm.control, vm.world, poor, {}, 1};
  const auto made = Pager::create(vm.spec, parts);
  ASSERT_FALSE(made);
  EXPECT_NE(made.error().message.find("of memory for the tables of vm1 do not fit: "),
            std::string::npos)
      << made.error().message;
  EXPECT_EQ(poor.consumed(), 0u);
}

TEST(ReclaimLadder, EachPageGoesToTheGentlestStoreThatHoldsIt) {
  TestVm vm;
  for (uint32_t page = 0; page < 64; ++page) {
    vm.stamp(page, page % 3 == 0 ? Kind::kZero : page % 3 == 1 ? Kind::kZips : Kind::kRandom);
  }
  vm.reclaim_all();
  for (uint32_t page = 0; page < 64; ++page) {
    EXPECT_EQ(vm.state(page), page % 3 == 0   ? PageState::kZero
                              : page % 3 == 1 ? PageState::kCompressed
                                              : PageState::kSwapped)
        << page;
  }
  EXPECT_EQ(vm.memory.frames(), 0u);
  vm.pager->audit();
  vm.check_all();
  vm.pager->audit();
}

TEST(ReclaimLadder, ACleanPageIsNotWrittenAgain) {
  TestVm vm({.options = without_zip()});
  for (uint32_t page = 0; page < 32; ++page) vm.stamp(page, Kind::kRandom);
  vm.reclaim_all();
  EXPECT_EQ(vm.pager->report().swap_outs, 32u);
  for (uint32_t page = 0; page < 32; ++page) vm.check(page);
  EXPECT_EQ(vm.state(20), PageState::kSealed);
  EXPECT_TRUE(vm.entry(20).slot());
  vm.stamp(7, Kind::kRandom, 2);
  vm.reclaim_all();
  EXPECT_EQ(vm.pager->report().swap_outs, 33u);
  EXPECT_EQ(vm.pager->report().clean_drops, 31u);
  vm.check_all();
  vm.pager->audit();
}

// The kept copy is judged by its bytes, not by whether somebody wrote.
TEST(ReclaimLadder, APageWrittenWithTheSameBytesIsStillClean) {
  TestVm vm({.options = without_zip()});
  vm.stamp(7, Kind::kRandom);
  vm.reclaim_all();
  vm.stamp(7, Kind::kRandom);
  EXPECT_EQ(vm.state(7), PageState::kResident);
  vm.reclaim_all();
  EXPECT_EQ(vm.pager->report().swap_outs, 1u);
  EXPECT_EQ(vm.pager->report().clean_drops, 1u);
  vm.check(7);
}

TEST(ReclaimLadder, WithTheCacheFullItsOldestPagesAreWritten) {
  Options options;
  options.zip_max_percent = 5;
  TestVm vm({.pages = 1024, .options = options});
  for (uint32_t page = 0; page < 1024; ++page) vm.stamp(page, Kind::kZips);
  vm.reclaim_all();
  const VmReport report = vm.pager->report();
  EXPECT_LE(report.arena_bytes, vm.spec.configured_bytes / 100 * 5);
  EXPECT_GT(report.swapped_bytes, 0u);
  EXPECT_GT(report.compressed_bytes, 0u);
  EXPECT_EQ(vm.memory.frames(), 0u);
  EXPECT_EQ(report.compressed_bytes + report.swapped_bytes, vm.spec.configured_bytes);
  EXPECT_LE(vm.store.arena_bytes(), report.arena_bytes);
  vm.pager->audit();
  vm.check_all();
  vm.pager->audit();
}

TEST(ReclaimLadder, OldestMeansLongestNotTouched) {
  Options options;
  options.zip_max_percent = 5;
  TestVm vm({.pages = 1024, .options = options});
  for (uint32_t page = 0; page < 40; ++page) vm.stamp(page, Kind::kZips);
  vm.reclaim_all();
  for (uint32_t page = 0; page < 40; ++page) ASSERT_EQ(vm.state(page), PageState::kCompressed);
  for (uint32_t page = 500; page < 900; ++page) vm.stamp(page, Kind::kZips);
  vm.reclaim_all();
  // The first forty are older than all the others.
  for (uint32_t page = 0; page < 40; ++page) EXPECT_EQ(vm.state(page), PageState::kSwapped) << page;
  vm.check_all();
}

TEST(Sealing, APageWrittenAfterItWasSealedStays) {
  TestVm vm({.options = without_zip(),
             .swap = {.latency_min = 10 * kMillisecond, .latency_max = 10 * kMillisecond}});
  for (uint32_t page = 0; page < 16; ++page) vm.stamp(page, Kind::kRandom);
  vm.ledger->set_thresholds(0, hard_below(vm.ledger->budget() + 1));
  vm.set_target(0);
  vm.pump();  // sealed, copied, on its way
  ASSERT_EQ(vm.state(3), PageState::kSealed);
  ASSERT_TRUE(vm.entry(3).in_flight());
  vm.ledger->set_thresholds(0, {});
  vm.stamp(3, Kind::kRandom, 2);  // traps, goes on
  EXPECT_EQ(vm.state(3), PageState::kResident);
  vm.check(4);  // reads do not even trap
  EXPECT_EQ(vm.state(4), PageState::kSealed);
  vm.world.advance(2 * kSecond);
  vm.settle();
  EXPECT_EQ(vm.state(3), PageState::kResident);
  EXPECT_FALSE(vm.entry(3).in_flight());
  EXPECT_EQ(vm.state(4), PageState::kSwapped);
  vm.pager->audit();
  vm.check_all();
}

TEST(Sealing, ACompressedPageTouchedOnItsWayToSwapStays) {
  TestVm vm(
      {.pages = 64, .swap = {.latency_min = 10 * kMillisecond, .latency_max = 10 * kMillisecond}});
  vm.setup.options.zip_max_percent = 10;  // 25 KiB: one slab
  for (uint32_t page = 0; page < 64; ++page) vm.stamp(page, Kind::kZips);
  vm.ledger->set_thresholds(0, hard_below(vm.ledger->budget() + 1));
  vm.set_target(0);
  std::optional<uint32_t> going;
  for (int i = 0; i < 50 && !going; ++i) {
    vm.pump();
    for (uint32_t page = 0; page < 64; ++page) {
      if (vm.state(page) == PageState::kCompressed && vm.entry(page).in_flight()) going = page;
    }
  }
  ASSERT_TRUE(going);
  vm.ledger->set_thresholds(0, {});
  vm.stamp(*going, Kind::kZips, 2);
  EXPECT_EQ(vm.state(*going), PageState::kResident);
  vm.world.advance(2 * kSecond);
  vm.settle();
  EXPECT_EQ(vm.state(*going), PageState::kResident);
  EXPECT_FALSE(vm.entry(*going).in_flight());
  vm.pager->audit();
  vm.check_all();
}

TEST(Discards, FreeFramesAndStoredCopiesAtOnce) {
  TestVm vm;
  for (uint32_t page = 0; page < 48; ++page) {
    vm.stamp(page, page % 3 == 0 ? Kind::kZero : page % 3 == 1 ? Kind::kZips : Kind::kRandom);
  }
  vm.reclaim_all();
  for (uint32_t page = 48; page < 64; ++page) vm.stamp(page, Kind::kRandom);
  for (uint32_t page = 0; page < 64; ++page) {
    vm.guest_discards(page, page == 63);
  }
  for (uint32_t page = 0; page < 64; ++page) EXPECT_EQ(vm.state(page), PageState::kBallooned);
  const VmReport report = vm.pager->report();
  EXPECT_EQ(report.arena_bytes, 0u);
  EXPECT_EQ(report.swapped_bytes, 0u);
  EXPECT_EQ(report.ballooned_bytes, 64 * kPageBytes);
  EXPECT_EQ(report.resident_bytes, pages_to_bytes(vm.memory.frames()));
  vm.pager->audit();
  vm.check_all();  // zeros
}

TEST(Discards, OfWhatABalloonMayHoldLittleIsBroughtAlong) {
  for (const bool ballooned : {false, true}) {
    TestVm vm;
    vm.pager->set_orders({.target_bytes = ~uint64_t{0}, .ballooned = ballooned});
    for (uint32_t page = 0; page < 64; ++page) vm.guest_discards(page);
    vm.stamp(37, Kind::kZips);
    uint32_t resident = 0;
    for (uint32_t page = 0; page < 64; ++page) resident += vm.state(page) == PageState::kResident;
    EXPECT_EQ(resident, ballooned ? 4u : 16u);
    for (uint32_t page = 38; page < 64; ++page) vm.stamp(page, Kind::kZips);
    EXPECT_LT(vm.pager->report().faults, 8u);
    vm.pager->audit();
    vm.check_all();
  }
}

TEST(Discards, ATouchBeforeTheMarksWereTakenReadsZeros) {
  TestVm vm;
  for (uint32_t page = 0; page < 16; ++page) vm.stamp(page, Kind::kRandom);
  vm.reclaim_all();
  for (uint32_t page = 16; page < 32; ++page) vm.stamp(page, Kind::kZips);
  for (uint32_t page = 0; page < 32; ++page) vm.guest_discards(page, false);
  vm.check_all();
  vm.pager->take_discards();
  vm.pager->audit();
  vm.check_all();
}

TEST(Discards, WhatWasWrittenAfterTheDiscardIsNotDiscarded) {
  TestVm vm;
  for (uint32_t page = 0; page < 16; ++page) vm.stamp(page, Kind::kRandom);
  vm.guest_discards(5, false);
  vm.stamp(5, Kind::kRandom, 2);
  vm.pager->take_discards();
  vm.check(5);
  // And not when it left again before the marks were taken.
  vm.guest_discards(6, false);
  vm.stamp(6, Kind::kRandom, 2);
  vm.reclaim_all();
  EXPECT_EQ(vm.state(6), PageState::kSwapped);
  vm.pager->take_discards();
  vm.check_all();
  vm.pager->audit();
}

TEST(Discards, DuringAReadGiveTheSlotBackWhenTheDiskIsDone) {
  TestVm vm({.options = without_zip(),
             .swap = {.latency_min = 10 * kMillisecond, .latency_max = 10 * kMillisecond}});
  vm.stamp(5, Kind::kRandom);
  vm.reclaim_all();
  vm.world.advance(2 * kSecond);
  vm.settle();
  ASSERT_EQ(vm.state(5), PageState::kSwapped);
  EXPECT_EQ(vm.memory.touch(0, PageIndex(5), false), nullptr);
  vm.pump();
  ASSERT_TRUE(vm.pager->has_io_in_flight());
  vm.guest_discards(5);
  EXPECT_EQ(vm.state(5), PageState::kBallooned);
  vm.pager->audit();
  vm.world.advance(2 * kSecond);
  vm.settle();
  vm.check(5);
  vm.pager->audit();
}

TEST(Faults, StaleAndDoubledEventsAreHarmless) {
  TestVm vm;
  Random random(9);
  for (uint32_t page = 0; page < 96; ++page) {
    vm.stamp(page, page % 2 == 0 ? Kind::kZips : Kind::kRandom);
  }
  vm.reclaim_to(Pager::overhead_bytes(256) + 60 * kPageBytes);
  for (int i = 0; i < 500; ++i) {
    const Fault fault{PageIndex(random.below(256)),
                      random.chance(500) ? FaultKind::kMissing : FaultKind::kSealed,
                      random.chance(500)};
    const Fault twice[] = {fault, fault};
    vm.pager->handle(twice);
    if (random.chance(200)) vm.pump();
  }
  vm.settle();
  vm.pager->audit();
  vm.check_all();
}

TEST(Faults, WaitForMemoryAndAreServedWhenThereIsSome) {
  const uint64_t overhead = Pager::overhead_bytes(256);
  TestVm vm({.budget_bytes = overhead + 80 * kPageBytes});
  vm.ledger->set_thresholds(uint64_t{64} << 10, {});
  vm.set_target(overhead + 32 * kPageBytes);
  for (uint32_t page = 0; page < 256; ++page) vm.stamp(page, Kind::kRandom);
  EXPECT_GT(vm.pager->report().waits, 0u);
  EXPECT_LE(vm.ledger->peak(), vm.ledger->budget());
  vm.check_all();
  vm.pager->audit();
}

// All buffers are busy: the seventh reader waits for the disk, which is no reason to evict.
TEST(Faults, WaitingForTheDiskTakesNoMemoryFromAnybody) {
  TestVm vm({.options = without_zip(),
             .swap = {.latency_min = 10 * kMillisecond, .latency_max = 10 * kMillisecond}});
  for (uint32_t page = 0; page < 256; ++page) vm.stamp(page, Kind::kRandom);
  vm.reclaim_all();
  for (uint32_t page = 0; page < 100; ++page) vm.check(page);
  const VmReport before = vm.pager->report();
  vm.set_target(vm.consumed());  // as the policy does for who wants no more
  for (uint32_t vcpu = 0; vcpu < 12; ++vcpu) {
    EXPECT_EQ(vm.memory.touch(vcpu, PageIndex(120 + vcpu * 11), false), nullptr);
  }
  for (int i = 0; i < 4000 && (vm.memory.has_faults() || vm.pager->has_io_in_flight() ||
                               vm.pager->has_waiting_faults());
       ++i) {
    vm.pump();
  }
  const VmReport after = vm.pager->report();
  EXPECT_GT(after.waits, before.waits);
  EXPECT_EQ(after.clean_drops, before.clean_drops);
  EXPECT_EQ(after.swap_outs, before.swap_outs);
  for (uint32_t vcpu = 0; vcpu < 12; ++vcpu) EXPECT_FALSE(vm.memory.asleep(vcpu));
}

TEST(Faults, MoreWaitersThanAreRememberedAreAllServed) {
  const uint64_t overhead = Pager::overhead_bytes(512);
  TestVm vm({.pages = 512, .budget_bytes = overhead + 144 * kPageBytes});
  vm.ledger->set_thresholds(uint64_t{64} << 10, {});
  vm.set_target(0);
  for (uint32_t page = 0; page < 128; ++page) vm.stamp(page, Kind::kRandom);
  std::set<uint32_t> missing;
  for (uint32_t page = 128; page < 512; ++page) missing.insert(page);
  // One vCPU per page; each reads its page once.
  for (int i = 0; i < 20'000 && !missing.empty(); ++i) {
    for (auto it = missing.begin(); it != missing.end();) {
      const bool awake = !vm.memory.asleep(*it);
      it = awake && vm.memory.touch(*it, PageIndex(*it), false) ? missing.erase(it) : std::next(it);
    }
    vm.pump();
  }
  EXPECT_TRUE(missing.empty()) << missing.size() << " vCPUs never got their page";
  EXPECT_GT(vm.pager->report().waits, 256u);
  vm.pager->audit();
}

TEST(Faults, ADamagedCompressedPageIsLostAndNeverGuessed) {
  TestVm vm;
  vm.stamp(5, Kind::kZips);
  vm.reclaim_all();
  ASSERT_EQ(vm.state(5), PageState::kCompressed);
  // The stored bytes begin behind the slot's header; a token that says "nothing follows".
  auto arena = vm.store.arena();
  const uint64_t at = vm.entry(5).arena_offset();
  std::memset(arena.data() + at + 12, 0, vm.entry(5).compressed_length());
  EXPECT_EQ(vm.memory.touch(0, PageIndex(5), false), nullptr);
  for (int i = 0; i < 100; ++i) vm.pump();
  EXPECT_TRUE(vm.memory.asleep(0));
  EXPECT_EQ(vm.state(5), PageState::kLost);
  EXPECT_TRUE(vm.control.frozen());
  ASSERT_EQ(vm.events("page.lost"), 1u);
  EXPECT_EQ(vm.control.events().back().message,
            "vm1 is paused: page 5 in its compression cache is damaged");
  EXPECT_EQ(vm.pager->report().lost_pages, 1u);
  vm.pager->audit();
}

TEST(Min, MemoryIsNeverReclaimedBelowIt) {
  for (const bool zip : {true, false}) {
    TestSetup setup{.pages = 512, .min_pages = 200};
    setup.options.zip_enable = zip;
    TestVm vm(setup);
    for (uint32_t page = 0; page < 512; ++page) vm.stamp(page, Kind::kZips);
    vm.reclaim_all();
    const VmReport report = vm.pager->report();
    EXPECT_GE(report.resident_bytes + report.arena_bytes, vm.spec.allocation.min_bytes) << zip;
    EXPECT_LE(report.resident_bytes + report.arena_bytes,
              vm.spec.allocation.min_bytes + 64 * kPageBytes);
    vm.pager->audit();
    vm.check_all();
  }
}

TEST(Min, AFullyReservedVmIsLeftAlone) {
  TestVm vm({.pages = 256, .min_pages = 256});
  for (uint32_t page = 0; page < 256; ++page) vm.stamp(page, Kind::kZips);
  vm.reclaim_all();
  EXPECT_EQ(vm.memory.frames(), 256u);
  EXPECT_EQ(vm.pager->report().zips, 0u);
}

TEST(Gone, AVmThatDiedIsLeftAlone) {
  TestVm vm;
  for (uint32_t page = 0; page < 64; ++page) vm.stamp(page, Kind::kRandom);
  vm.memory.die();
  const Fault fault{PageIndex(100)};
  vm.pager->handle({&fault, 1});
  EXPECT_TRUE(vm.pager->gone());
  EXPECT_FALSE(vm.pager->turn());
  vm.pager->take_discards();
  vm.pager.reset();
  EXPECT_EQ(vm.ledger->consumed(), 0u);
}

}  // namespace
}  // namespace ballast::engine
