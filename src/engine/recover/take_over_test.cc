#include "engine/recover/take_over.h"

#include "engine/engine_test_vm.h"

namespace ballast::engine {
namespace {

using machine::sim::DaemonKilled;

TEST(TakeOver, AVmWithPagesInEveryStateGoesOn) {
  TestVm vm;
  for (uint32_t page = 0; page < 90; ++page) {
    vm.stamp(page, page % 3 == 0 ? Kind::kZero : page % 3 == 1 ? Kind::kZips : Kind::kRandom);
  }
  vm.reclaim_all();
  for (uint32_t page = 0; page < 30; ++page) vm.check(page);  // clean copies in swap
  for (uint32_t page = 90; page < 120; ++page) vm.stamp(page, Kind::kZips);
  for (uint32_t page = 60; page < 70; ++page) vm.guest_discards(page);
  const VmReport before = vm.pager->report();
  vm.kill();
  ASSERT_EQ(vm.take_over(), "");
  const VmReport after = vm.pager->report();
  EXPECT_EQ(after.resident_bytes, before.resident_bytes);
  EXPECT_EQ(after.compressed_bytes, before.compressed_bytes);
  EXPECT_EQ(after.swapped_bytes, before.swapped_bytes);
  EXPECT_EQ(after.zero_bytes, before.zero_bytes);
  EXPECT_EQ(after.ballooned_bytes, before.ballooned_bytes);
  EXPECT_EQ(after.arena_bytes, before.arena_bytes);
  EXPECT_LE(vm.store.arena_bytes(), after.arena_bytes);
  EXPECT_EQ(vm.ledger->consumed(), after.consumed_bytes);
  vm.check_all();
  // Clean copies are still known: nothing is written again that did not change.
  vm.reclaim_all();
  EXPECT_GT(vm.pager->report().clean_drops, 0u);
  vm.check_all();
  vm.pager->audit();
}

TEST(TakeOver, SleepersOfLostEventsAreWoken) {
  TestVm vm;
  for (uint32_t page = 0; page < 16; ++page) vm.stamp(page, Kind::kRandom);
  vm.reclaim_all();
  ASSERT_EQ(vm.memory.touch(0, PageIndex(3), false), nullptr);
  (void)vm.memory.take_faults(64);  // read by the daemon that dies now
  vm.kill();
  EXPECT_TRUE(vm.memory.asleep(0));
  ASSERT_EQ(vm.take_over(), "");
  EXPECT_FALSE(vm.memory.asleep(0));
  vm.check_all();
}

TEST(TakeOver, DiscardsOfTheTimeBetweenAreTaken) {
  TestVm vm;
  for (uint32_t page = 0; page < 48; ++page) {
    vm.stamp(page, page % 2 == 0 ? Kind::kZips : Kind::kRandom);
  }
  vm.reclaim_all();
  for (uint32_t page = 48; page < 64; ++page) vm.stamp(page, Kind::kRandom);
  vm.kill();
  for (uint32_t page = 40; page < 56; ++page) vm.guest_discards(page, false);
  ASSERT_EQ(vm.take_over(), "");
  for (uint32_t page = 40; page < 56; ++page) EXPECT_EQ(vm.state(page), PageState::kBallooned);
  vm.check_all();
  vm.pager->audit();
}

TEST(TakeOver, ASealedPageCanBeWrittenAgain) {
  TestSetup setup;
  setup.options.zip_enable = false;
  TestVm vm(setup);
  for (uint32_t page = 0; page < 16; ++page) vm.stamp(page, Kind::kRandom);
  vm.reclaim_all();
  for (uint32_t page = 0; page < 16; ++page) vm.check(page);
  ASSERT_EQ(vm.state(9), PageState::kSealed);
  vm.kill();
  ASSERT_EQ(vm.take_over(), "");
  for (uint32_t page = 0; page < 16; ++page) vm.stamp(page, Kind::kRandom, 2);
  vm.reclaim_all();
  vm.check_all();
}

TEST(TakeOver, ALostPageStaysLost) {
  TestSetup setup;
  setup.options.zip_enable = false;
  setup.swap.bad_slots = 1000;
  TestVm vm(setup);
  vm.stamp(0, Kind::kRandom);
  vm.reclaim_all();
  (void)vm.memory.touch(0, PageIndex(0), false);
  for (int i = 0; i < 300; ++i) vm.pump();
  ASSERT_EQ(vm.state(0), PageState::kLost);
  vm.kill();
  ASSERT_EQ(vm.take_over(), "");
  EXPECT_EQ(vm.pager->report().lost_pages, 1u);
  EXPECT_EQ(vm.state(0), PageState::kLost);
  vm.swap.repair();
  vm.pager->retry_lost();
  vm.check_all();
}

// Work of all kinds, killed at its n-th step, for every n.
class Story {
 public:
  explicit Story(uint64_t seed, bool zip, VictimChoice victims) : vm_(setup(seed, zip, victims)) {}

  // False if the story ended before the n-th point.
  bool killed_at(uint64_t point) {
    uint64_t left = point;
    vm_.world.set_hook([this, &left] {
      if (--left == 0) vm_.world.kill_daemon();
    });
    try {
      tell();
      vm_.world.set_hook({});
      return false;
    } catch (const DaemonKilled&) {
      vm_.world.set_hook({});
      vm_.bury();
      return true;
    }
  }
  void goes_on() {
    ASSERT_EQ(vm_.take_over(), "");
    ASSERT_EQ(vm_.ledger->consumed(), vm_.pager->report().consumed_bytes);
    ASSERT_EQ(vm_.pager->report().resident_bytes, pages_to_bytes(vm_.memory.frames()));
    ASSERT_GE(vm_.pager->report().arena_bytes, vm_.store.arena_bytes());
    ASSERT_NO_FATAL_FAILURE(vm_.check_all());
    vm_.pager->audit();
    vm_.reclaim_all();
    ASSERT_NO_FATAL_FAILURE(vm_.check_all());
    vm_.pager->audit();
    ASSERT_FALSE(vm_.control.frozen());
  }

 private:
  static TestSetup setup(uint64_t seed, bool zip, VictimChoice victims) {
    TestSetup setup{.pages = 48, .seed = seed};
    setup.options.zip_enable = zip;
    setup.options.zip_max_percent = 30;  // three slabs: the cache fills
    setup.options.victims = victims;
    return setup;
  }
  void tell() {
    for (uint32_t page = 0; page < 40; ++page) {
      vm_.stamp(page, page % 4 == 0 ? Kind::kZero : page % 4 == 3 ? Kind::kRandom : Kind::kZips);
    }
    vm_.reclaim_all();
    for (uint32_t page = 0; page < 40; page += 3) vm_.check(page);
    for (uint32_t page = 1; page < 40; page += 5) vm_.stamp(page, Kind::kRandom, 2);
    for (uint32_t page = 2; page < 40; page += 9) vm_.guest_discards(page);
    vm_.reclaim_all();
    for (uint32_t page = 0; page < 48; ++page) vm_.check(page);
  }

  TestVm vm_;
};

// Every step takes minutes; these hit every kind of step.
constexpr uint64_t kStride = 59;

TEST(TakeOver, AfterAKillAtEveryStepNoByteIsLost) {
  for (const bool zip : {true, false}) {
    for (const auto victims : {VictimChoice::kRandom, VictimChoice::kSecondChance}) {
      uint64_t point = 1;
      for (;; point += kStride) {
        Story story(point, zip, victims);
        if (!story.killed_at(point)) break;
        ASSERT_NO_FATAL_FAILURE(story.goes_on()) << "killed at " << point << " zip " << zip;
      }
      EXPECT_GT(point, 500u);
    }
  }
}

// Tables that somebody damaged: refused as a whole, nothing changed, nothing charged.
class DamagedTables : public testing::Test {
 protected:
  void SetUp() override {
    for (uint32_t page = 0; page < 64; ++page) {
      vm_.stamp(page, page % 2 == 0 ? Kind::kZips : Kind::kRandom);
    }
    vm_.reclaim_all();
    ASSERT_EQ(vm_.state(10), PageState::kCompressed);
    ASSERT_EQ(vm_.state(11), PageState::kSwapped);
    vm_.kill();
  }
  std::string refusal_with(PageEntry entry, uint32_t page = 11) {
    Tables tables = vm_.tables();
    const PageEntry before = tables.get(PageIndex(page));
    tables.put(PageIndex(page), entry);
    const auto bytes = vm_.store.tables();
    const std::vector<std::byte> copy(bytes.begin(), bytes.end());
    std::string refusal = vm_.take_over();
    EXPECT_TRUE(std::equal(copy.begin(), copy.end(), bytes.begin()));
    tables.put(PageIndex(page), before);
    return refusal;
  }
  static std::string damaged(uint32_t page, const std::string& what) {
    return "the page table that an earlier daemon left for vm1 is damaged: page " +
           std::to_string(page) + " " + what;
  }
  TestVm vm_;
};

TEST_F(DamagedTables, UnknownState) {
  EXPECT_EQ(refusal_with(PageEntry(10)), damaged(11, "has an unknown state"));
  EXPECT_EQ(refusal_with(PageEntry(15)), damaged(11, "has an unknown state"));
}

TEST_F(DamagedTables, SwappedWithoutSlot) {
  EXPECT_EQ(refusal_with(PageEntry::plain(PageState::kSwapped)),
            damaged(11, "is swapped without a slot"));
}

TEST_F(DamagedTables, SharedWithoutFrameOrGroup) {
  EXPECT_EQ(refusal_with(PageEntry::plain(PageState::kShared)),
            damaged(11, "is shared without a frame"));
  EXPECT_EQ(refusal_with(PageEntry::away(PageState::kLoose, FrameIndex(3))),
            damaged(11, "names a shared frame that its group does not have"));
}

TEST_F(DamagedTables, SlotOutOfRange) {
  EXPECT_EQ(refusal_with(PageEntry::with_slot(PageState::kSwapped, SwapSlot(256))),
            damaged(11, "names a swap slot that is out of range or taken"));
  EXPECT_EQ(refusal_with(PageEntry::with_slot(PageState::kSwapped, SwapSlot(~0u))),
            damaged(11, "names a swap slot that is out of range or taken"));
}

// 2^32 + 1 must not pass for slot 0.
TEST_F(DamagedTables, SlotBeyondThirtyTwoBits) {
  const uint64_t slot = vm_.entry(11).word() >> 24;
  EXPECT_EQ(refusal_with(PageEntry(5 | ((uint64_t{1} << 32) + slot) << 24)),
            damaged(11, "carries bits that its state has no use for"));
}

TEST_F(DamagedTables, PayloadWhereNoneBelongs) {
  for (const PageState state : {PageState::kUntouched, PageState::kZero, PageState::kBallooned}) {
    EXPECT_EQ(refusal_with(PageEntry::with_slot(state, SwapSlot(200))),
              damaged(11, "carries bits that its state has no use for"));
  }
}

TEST_F(DamagedTables, OneSlotTwice) {
  EXPECT_EQ(refusal_with(vm_.entry(13)),
            damaged(13, "names a swap slot that is out of range or taken"));
}

TEST_F(DamagedTables, CompressedCopyThatCannotBe) {
  const PageEntry whole = vm_.entry(10);
  const std::string cannot = damaged(10, "names a compressed copy that cannot be one");
  EXPECT_EQ(refusal_with(PageEntry::compressed(whole.arena_offset(), 0), 10), cannot);
  EXPECT_EQ(refusal_with(PageEntry::compressed(whole.arena_offset(), 2049), 10), cannot);
  EXPECT_EQ(refusal_with(PageEntry::compressed(uint64_t{1} << 39, 600), 10), cannot);
  EXPECT_EQ(refusal_with(PageEntry::compressed(whole.arena_offset() + 16, 600), 10), cannot);
  EXPECT_EQ(refusal_with(vm_.entry(12), 10),
            damaged(12, "names a compressed copy that cannot be one"));
}

TEST_F(DamagedTables, HeaderOfAnotherVm) {
  vm_.spec.configured_bytes *= 4;
  EXPECT_NE(vm_.take_over().find("too small for 1024 pages and 1024 swap slots"),
            std::string::npos);
  vm_.spec.configured_bytes /= 8;
  EXPECT_EQ(vm_.take_over(),
            "tables describe 256 pages and 256 swap slots, the VM has 128 and 128");
}

TEST_F(DamagedTables, PartsOfOtherSizes) {
  machine::sim::SimGuestMemory small(vm_.world, 1, {.page_count = 128});
  machine::sim::SimSwapDevice few(vm_.world, 1, {.slot_count = 100});
  const auto refused = [&](machine::GuestMemory& memory, machine::SwapDevice& swap) {
    const PagerParts parts{memory, swap, vm_.store, vm_.control, vm_.world, *vm_.ledger, {}, 1};
    const auto taken = Pager::take_over(vm_.spec, parts);
    return taken ? "" : taken.error().message;
  };
  EXPECT_EQ(refused(small, vm_.swap),
            "the guest RAM (pages) of vm1 has 128, but its memory of 1 MB needs 256");
  EXPECT_EQ(refused(vm_.memory, few),
            "the swap file (slots) of vm1 has 100, but its memory of 1 MB needs 256");
}

TEST_F(DamagedTables, TheVmDiedMeanwhile) {
  vm_.memory.die();
  EXPECT_EQ(vm_.take_over(), "vm1 died while it was taken over");
}

// After every refusal above the same tables, undamaged, are taken over.
TEST_F(DamagedTables, RandomBitsAreRefusedOrHarmless) {
  Random random(5);
  const auto bytes = vm_.store.tables();
  const std::vector<std::byte> copy(bytes.begin(), bytes.end());
  uint32_t refused = 0;
  for (int i = 0; i < 300; ++i) {
    Tables tables = vm_.tables();
    const uint32_t page = random.below(256);
    tables.put(PageIndex(page),
               PageEntry(tables.get(PageIndex(page)).word() ^ uint64_t{1} << random.below(64)));
    if (vm_.take_over().empty()) {
      for (int n = 0; n < 3; ++n) vm_.pump();
      vm_.pager->audit();
      vm_.kill();
    } else {
      ++refused;
    }
    std::copy(copy.begin(), copy.end(), bytes.begin());
  }
  EXPECT_GT(refused, 50u);
}

}  // namespace
}  // namespace ballast::engine
