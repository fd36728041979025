// What the policy's orders and the host state make a pager do.
#include "engine/engine_test_vm.h"

namespace ballast::engine {
namespace {

Options without_zip() {
  Options options;
  options.zip_enable = false;
  return options;
}

constexpr uint64_t kNone = ~uint64_t{0};

// Every state below which `free` bytes lie.
Thresholds thresholds(uint64_t clear, uint64_t soft, uint64_t hard, uint64_t low) {
  Thresholds t;
  t.enter = {clear * 4, clear, soft, hard, low};
  t.leave = {kNone, clear + clear / 4, soft + 1, hard + 1, low + 1};
  return t;
}

// A state that holds whatever is free.
void force(TestVm& vm, HostState state) {
  const uint64_t all = kNone - 1;
  const auto below = [&](HostState other) { return state >= other ? all : 0; };
  Thresholds t;
  t.enter = {all, below(HostState::kClear), below(HostState::kSoft), below(HostState::kHard),
             below(HostState::kLow)};
  for (size_t i = 0; i < kHostStates; ++i) t.leave[i] = i > static_cast<size_t>(state) ? 0 : kNone;
  // States whose threshold equals the next deeper one's do not exist: keep them apart.
  for (size_t i = 1; i < kHostStates; ++i) t.enter[i] = t.enter[i] == 0 ? 0 : all - i;
  vm.ledger->set_thresholds(0, t);
  for (size_t i = 0; i < kHostStates; ++i) vm.ledger->follow_free();  // one state at a time
  ASSERT_EQ(vm.ledger->state(), state);
}

void fill(TestVm& vm, uint32_t pages, Kind kind = Kind::kRandom) {
  for (uint32_t page = 0; page < pages; ++page) vm.stamp(page, kind);
}

uint64_t settled(TestVm& vm) {
  for (int i = 0; i < 3000; ++i) vm.pump();
  return vm.consumed();
}

TEST(Orders, NothingIsTakenInHighAndClear) {
  TestVm vm({.pages = 512, .options = without_zip()});
  fill(vm, 256);
  vm.set_target(vm.consumed() / 2);
  const uint64_t before = vm.consumed();
  force(vm, HostState::kHigh);
  EXPECT_EQ(settled(vm), before);
  force(vm, HostState::kClear);
  EXPECT_EQ(settled(vm), before);
}

TEST(Orders, SoftLeavesToTheBalloonWhatItCanTake) {
  TestVm vm({.pages = 512, .options = without_zip()});
  fill(vm, 256);
  const uint64_t before = vm.consumed();
  const uint64_t page = kPageBytes;
  vm.pager->set_orders(
      {.target_bytes = before - 200 * page, .soft_floor_bytes = before - 50 * page});
  force(vm, HostState::kSoft);
  EXPECT_LE(settled(vm), before - 50 * page);
  EXPECT_GE(vm.consumed(), before - 50 * page - kRunPages * page);
  force(vm, HostState::kHard);  // the target now
  EXPECT_LE(settled(vm), before - 200 * page + kPageBytes);
  EXPECT_GE(vm.consumed(), before - 200 * page - kRunPages * page);
}

TEST(Orders, ALimitHoldsInAnyState) {
  TestVm vm({.pages = 512, .options = without_zip()});
  fill(vm, 256);
  const uint64_t limit = vm.consumed() - 100 * kPageBytes;
  vm.pager->set_orders({.target_bytes = limit, .limit_floor_bytes = limit});
  force(vm, HostState::kHigh);
  EXPECT_LE(settled(vm), limit);
  fill(vm, 256);  // it works on within its limit
  EXPECT_LE(settled(vm), limit);
  vm.check_all();
}

// A working set above the limit does not outrun the VM's own paging.
TEST(Orders, ALimitHoldsWhileTheGuestFillsItsMemory) {
  TestVm vm({.pages = 4096, .options = without_zip()});
  vm.pager->set_orders({.target_bytes = vm.consumed() + 512 * kPageBytes,
                        .limit_floor_bytes = vm.consumed() + 512 * kPageBytes});
  force(vm, HostState::kHigh);
  const uint64_t limit = vm.consumed() + 512 * kPageBytes;
  uint64_t most = 0;
  for (uint32_t page = 0; page < 4096; ++page) {
    vm.stamp(page, Kind::kRandom);
    most = std::max(most, vm.consumed());
  }
  EXPECT_LE(most, limit + kLimitSlackBytes + 64 * kPageBytes);
  vm.check_all();
}

TEST(Orders, TheMinIsLive) {
  TestVm vm({.pages = 512, .options = without_zip()});
  fill(vm, 256);
  const uint64_t min = 128 * kPageBytes;
  vm.pager->set_orders({.target_bytes = 0, .soft_floor_bytes = 0, .min_bytes = min});
  force(vm, HostState::kHard);
  EXPECT_GE(settled(vm), min);
  EXPECT_EQ(vm.pager->report().spec.allocation.min_bytes, min);
}

TEST(Orders, LowBlocksAVmAboveItsTargetUntilMemoryIsBack) {
  // Nothing can leave (no slots, no compression): only the state can let it go on.
  TestVm vm({.pages = 512, .options = without_zip()});
  fill(vm, 64);
  vm.set_target(vm.consumed() - kPageBytes);
  vm.pager->set_orders({.target_bytes = vm.consumed() - kPageBytes,
                        .min_bytes = vm.consumed()});  // and it may keep what it has
  force(vm, HostState::kLow);
  vm.memory.touch(0, PageIndex(300), true);
  const Nanoseconds since = vm.world.peek();
  while (vm.world.peek() - since < 100 * kMillisecond) vm.pump();
  EXPECT_TRUE(vm.memory.asleep(0));
  EXPECT_TRUE(vm.pager->report().blocked);
  force(vm, HostState::kHard);
  for (int i = 0; i < 10; ++i) vm.pump();
  EXPECT_FALSE(vm.memory.asleep(0));
  EXPECT_FALSE(vm.pager->report().blocked);
}

TEST(Orders, LowLetsAVmAtItsTargetGoOn) {
  TestVm vm({.pages = 512, .options = without_zip()});
  fill(vm, 64);
  vm.set_target(vm.consumed() + 64 * kPageBytes);
  force(vm, HostState::kLow);
  vm.stamp(300, Kind::kRandom);  // asserts that it comes
  EXPECT_FALSE(vm.pager->report().blocked);
}

TEST(Orders, WritesToPagesItHasAreNotBlocked) {
  TestVm vm({.pages = 512, .options = without_zip()});
  fill(vm, 64);
  vm.pager->set_orders({.target_bytes = 0, .min_bytes = vm.consumed()});
  force(vm, HostState::kLow);
  vm.stamp(10, Kind::kRandom, 2);
}

// A block that could not end by itself would be a kill.
TEST(Orders, ABlockEndsWhenNothingCanBeTaken) {
  TestVm vm({.pages = 512, .options = without_zip(), .swap = {.failed_writes = 1000}});
  fill(vm, 64);
  vm.set_target(0);
  force(vm, HostState::kLow);
  vm.memory.touch(0, PageIndex(300), true);
  const Nanoseconds since = vm.world.peek();
  while (vm.memory.asleep(0) && vm.world.peek() - since < 5 * kSecond) vm.pump();
  EXPECT_FALSE(vm.memory.asleep(0));
  EXPECT_GT(vm.world.peek() - since, 500 * kMillisecond);
}

class BringBackTest : public testing::Test {
 protected:
  // 1024 pages on disk, nothing in memory, and plenty of it.
  void swap_all(TestVm& vm) {
    fill(vm, 1024);
    vm.reclaim_all();
    ASSERT_EQ(vm.pager->report().swapped_bytes, pages_to_bytes(1024));
    vm.ledger->set_thresholds(0, thresholds(1 << 20, 1 << 19, 1 << 18, 1 << 17));
  }
  void order(TestVm& vm, uint64_t target) {
    vm.pager->set_orders({.target_bytes = target, .bring_back = true});
  }
};

TEST_F(BringBackTest, SwappedPagesReturnUpToTheTarget) {
  TestVm vm({.pages = 1024, .options = without_zip()});
  swap_all(vm);
  const uint64_t faults = vm.pager->report().faults;
  order(vm, vm.consumed() + 512 * kPageBytes);
  settled(vm);
  EXPECT_LE(vm.consumed(), vm.pager->report().target_bytes);
  EXPECT_GE(vm.consumed(), vm.pager->report().target_bytes - 16 * kPageBytes);
  const VmReport report = vm.pager->report();
  EXPECT_EQ(report.brought_back, report.swap_ins);
  EXPECT_EQ(report.faults, faults);
  // They are clean: taken again, they are not written.
  const uint64_t written = report.swap_outs;
  vm.reclaim_all();
  EXPECT_EQ(vm.pager->report().swap_outs, written);
  vm.pager->audit();
  vm.check_all();
}

TEST_F(BringBackTest, WhatWasMissedLatelyReturnsFirst) {
  TestVm vm({.pages = 1024, .options = without_zip()});
  swap_all(vm);
  order(vm, 0);
  vm.check(700);  // one miss in the second block of 512
  order(vm, vm.consumed() + 400 * kPageBytes);
  settled(vm);
  uint32_t in_second = 0;
  for (uint32_t page = 512; page < 1024; ++page) {
    in_second += vm.state(page) == PageState::kSwapped ? 0 : 1;
  }
  EXPECT_GT(in_second, 350u);
}

TEST_F(BringBackTest, FewSwappedPagesFarApartAreFound) {
  // More blocks without a swapped page than are looked through at once.
  TestVm vm({.pages = 80 * 512, .options = without_zip()});
  constexpr uint32_t kFar = 40 * 512 + 100;
  vm.stamp(kFar, Kind::kRandom);
  vm.reclaim_all();
  ASSERT_EQ(vm.state(kFar), PageState::kSwapped);
  vm.ledger->set_thresholds(0, thresholds(1 << 20, 1 << 19, 1 << 18, 1 << 17));
  order(vm, kNone - 1);
  settled(vm);
  EXPECT_NE(vm.state(kFar), PageState::kSwapped);
  EXPECT_EQ(vm.pager->report().brought_back, 1u);
  vm.pager->audit();
  vm.check(kFar);
}

TEST_F(BringBackTest, NotWithoutOrdersNorWhileMemoryIsShort) {
  TestVm vm({.pages = 1024, .options = without_zip()});
  swap_all(vm);
  vm.pager->set_orders({.target_bytes = kNone - 1});
  settled(vm);
  EXPECT_EQ(vm.pager->report().brought_back, 0u);
  order(vm, kNone - 1);
  force(vm, HostState::kSoft);
  settled(vm);
  EXPECT_EQ(vm.pager->report().brought_back, 0u);
}

TEST_F(BringBackTest, WhatCannotBeReadWaitsUntilItIsMissed) {
  TestVm vm({.pages = 1024, .options = without_zip(), .swap = {.failed_reads = 1000}});
  swap_all(vm);
  order(vm, kNone - 1);
  settled(vm);
  EXPECT_FALSE(vm.control.frozen());
  EXPECT_EQ(vm.pager->report().lost_pages, 0u);
  EXPECT_EQ(vm.pager->report().swapped_bytes, pages_to_bytes(1024));
  EXPECT_LE(vm.pager->report().brought_back, 64u);  // and it was not tried all the time
  vm.pager->audit();
}

TEST(SwapGrowth, ALargerFileIsUsed) {
  TestVm vm({.pages = 256, .min_pages = 200, .options = without_zip()});
  fill(vm, 256);
  vm.pager->set_orders({.target_bytes = 0, .soft_floor_bytes = 0});  // no min any more
  force(vm, HostState::kHard);
  settled(vm);
  EXPECT_EQ(vm.pager->report().swapped_bytes, pages_to_bytes(56));
  vm.swap.grow(256);
  vm.pager->swap_grew();
  EXPECT_EQ(vm.pager->report().swap_reserved_bytes, pages_to_bytes(256));
  settled(vm);
  EXPECT_EQ(vm.pager->report().swapped_bytes, pages_to_bytes(256));
  vm.pager->audit();
  vm.ledger->set_thresholds(0, {});
  vm.check_all();
}

}  // namespace
}  // namespace ballast::engine
