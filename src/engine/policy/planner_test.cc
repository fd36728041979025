#include "engine/policy/planner.h"

#include <gtest/gtest.h>

namespace ballast::engine {
namespace {

constexpr uint64_t kMb = uint64_t{1} << 20;

VmSituation vm_of(std::string name, uint64_t configured_mb, uint64_t used_mb) {
  VmSituation vm;
  vm.name = std::move(name);
  vm.configured_bytes = configured_mb * kMb;
  vm.overhead_bytes = 2 * kMb;
  vm.resident_bytes = used_mb * kMb;
  vm.consumed_bytes = vm.resident_bytes + vm.overhead_bytes;
  vm.active_bytes = vm.resident_bytes;
  return vm;
}

void give_balloon(VmSituation& vm, uint64_t size_mb, Nanoseconds now) {
  vm.balloon.link = machine::BalloonView::Link::kReady;
  vm.balloon.actual_bytes = vm.configured_bytes - size_mb * kMb;
  machine::GuestStats stats;
  stats.total_bytes = vm.configured_bytes;
  stats.available_bytes = vm.configured_bytes / 2;
  stats.at = now;
  vm.balloon.stats = stats;
}

HostSituation host_of(HostState state, uint64_t divided_mb, uint64_t free_mb, Nanoseconds now) {
  return {.divided_bytes = divided_mb * kMb,
          .free_bytes = free_mb * kMb,
          .state = state,
          .thresholds = make_thresholds(ThresholdSet::kEsxi6, 1024 * kMb, 0, 0),
          .now = now};
}

TEST(Solve, EverybodyGetsWhatHeWantsWhileThereIsEnough) {
  const std::vector<VmSituation> vms = {vm_of("a", 256, 100), vm_of("b", 256, 30)};
  const auto targets = solve(1024 * kMb, vms, {});
  EXPECT_EQ(targets[0].target_bytes, 102 * kMb + headroom_bytes(100 * kMb));
  EXPECT_EQ(targets[0].bound, Bound::kWant);
  EXPECT_EQ(targets[1].want_bytes, targets[1].target_bytes);
}

TEST(Solve, MemoryThatWasNeverAskedForIsNotSetAside) {
  // b touched 30 of its 256 MB: a may have the rest although shares are equal.
  const std::vector<VmSituation> vms = {vm_of("a", 512, 400), vm_of("b", 512, 30)};
  const auto targets = solve(400 * kMb, vms, {});
  EXPECT_GT(targets[0].target_bytes, 350 * kMb);
  EXPECT_EQ(targets[0].bound, Bound::kShares);
  EXPECT_EQ(targets[1].bound, Bound::kWant);
}

TEST(Solve, AnUnusedReservationIsLentOutAndItsTargetIsStillTheMin) {
  std::vector<VmSituation> vms = {vm_of("a", 512, 500), vm_of("b", 512, 10)};
  vms[1].allocation.min_bytes = 300 * kMb;
  const auto targets = solve(400 * kMb, vms, {});
  EXPECT_EQ(targets[1].target_bytes, 302 * kMb);
  EXPECT_GT(targets[0].target_bytes, 370 * kMb);
  vms[1] = vm_of("b", 512, 350);
  vms[1].allocation.min_bytes = 300 * kMb;
  vms[1].active_bytes = 0;
  const auto later = solve(400 * kMb, vms, {});
  EXPECT_GE(later[1].target_bytes, 302 * kMb);
  EXPECT_LE(later[0].target_bytes, 98 * kMb);
  EXPECT_EQ(later[1].bound, Bound::kMin);
}

TEST(Solve, ALimitHoldsHoweverMuchIsFree) {
  std::vector<VmSituation> vms = {vm_of("a", 256, 200)};
  vms[0].allocation.limit_bytes = 128 * kMb;
  const auto targets = solve(4096 * kMb, vms, {});
  EXPECT_EQ(targets[0].target_bytes, 130 * kMb);
  EXPECT_EQ(targets[0].bound, Bound::kLimit);
}

// Figure 7 of the paper with the overhead left out: τ = 0, then 75 %.
TEST(Solve, Figure7) {
  std::vector<VmSituation> vms = {vm_of("idle", 256, 256), vm_of("busy", 256, 256)};
  for (VmSituation& vm : vms) vm.overhead_bytes = 0;
  vms[0].active_bytes = 30 * kMb;
  Options options;
  options.idle_tax_type = TaxType::kFlat;
  options.idle_tax_percent = 0;
  auto targets = solve(358 * kMb, vms, options);
  EXPECT_EQ(targets[0].target_bytes, 179 * kMb);
  EXPECT_EQ(targets[1].target_bytes, 179 * kMb);
  options.idle_tax_percent = 75;
  targets = solve(358 * kMb, vms, options);
  EXPECT_EQ(targets[0].target_bytes, 102 * kMb);
  EXPECT_EQ(targets[1].target_bytes, 256 * kMb);
}

TEST(Planner, NothingIsTakenWhileMemoryIsPlenty) {
  const Options options;
  Planner planner(options);
  std::vector<VmSituation> vms = {vm_of("a", 256, 250), vm_of("b", 256, 250)};
  for (VmSituation& vm : vms) give_balloon(vm, 0, kSecond);
  const auto decisions = planner.plan(host_of(HostState::kHigh, 400, 300, kSecond), vms);
  for (const VmDecision& decision : decisions) {
    EXPECT_LT(decision.target.target_bytes, 252 * kMb);  // what it would be asked for in need
    EXPECT_EQ(decision.balloon.request_bytes, 0u);
    EXPECT_EQ(decision.limit_floor_bytes, ~uint64_t{0});
  }
}

TEST(Planner, BalloonsGoFirstAndPagingTakesWhatTheyCannot) {
  const Options options;
  Planner planner(options);
  std::vector<VmSituation> vms = {vm_of("with", 256, 250), vm_of("without", 256, 250)};
  give_balloon(vms[0], 0, kSecond);
  const auto decisions = planner.plan(host_of(HostState::kSoft, 400, 20, kSecond), vms);
  EXPECT_GT(decisions[0].balloon.request_bytes, 0u);
  EXPECT_GE(decisions[0].soft_floor_bytes,
            decisions[0].target.target_bytes + 40 * kMb);  // left to the balloon
  EXPECT_EQ(decisions[1].balloon.condition, BalloonCondition::kNone);
  EXPECT_EQ(decisions[1].soft_floor_bytes, decisions[1].target.target_bytes);
}

TEST(Planner, ABalloonGrowsBeforeTheSoftLineIsCrossed) {
  const Options options;
  Planner planner(options);
  std::vector<VmSituation> vms = {vm_of("a", 256, 250), vm_of("b", 256, 250)};
  for (VmSituation& vm : vms) give_balloon(vm, 0, kSecond);
  Nanoseconds now = kSecond;
  bool grew = false;
  // 10 MB a second are being consumed; the soft line is at 39 MB.
  for (uint64_t free = 120; free > 40 && !grew; free -= 5) {
    now += 500 * kMillisecond;
    for (VmSituation& vm : vms) vm.balloon.stats->at = now;
    const auto decisions = planner.plan(host_of(HostState::kClear, 400, free, now), vms);
    grew = decisions[0].balloon.request_bytes > 0;
    if (grew) {
      EXPECT_GT(free, 50u);
    }
  }
  EXPECT_TRUE(grew);
  EXPECT_TRUE(planner.expects_shortage());
  EXPECT_LT(planner.slope(), -8e6);
}

TEST(Planner, ABalloonShrinksAsSoonAsTheTargetRises) {
  const Options options;
  Planner planner(options);
  std::vector<VmSituation> vms = {vm_of("a", 256, 150), vm_of("b", 256, 250)};
  give_balloon(vms[0], 106, kSecond);
  const auto tight = planner.plan(host_of(HostState::kClear, 400, 60, kSecond), vms);
  const uint64_t kept = tight[0].balloon.request_bytes;
  EXPECT_GT(kept, 0u);
  vms.pop_back();  // b has left
  const auto decisions = planner.plan(host_of(HostState::kHigh, 400, 300, 2 * kSecond), vms);
  EXPECT_EQ(decisions[0].balloon.request_bytes, 0u);
}

// Also of a guest that never touched half of its memory: what it holds and its balloon together
// stay under its target, and under its size less the balloon.
TEST(Planner, ABalloonLeavesAVmThatGetsAllItWants) {
  const Options options;
  Planner planner(options);
  std::vector<VmSituation> vms = {vm_of("a", 256, 100)};
  give_balloon(vms[0], 20, kSecond);
  const auto decisions = planner.plan(host_of(HostState::kHigh, 1000, 800, 2 * kSecond), vms);
  EXPECT_EQ(decisions[0].target.bound, Bound::kWant);
  EXPECT_EQ(decisions[0].balloon.request_bytes, 0u);
}

// A guest cannot grow past its balloon, so nothing else may tell that it wants to.
TEST(Planner, WhileThereIsABalloonTargetsFollowEveryTick) {
  const Options options;
  Planner planner(options);
  std::vector<VmSituation> vms = {vm_of("a", 256, 100), vm_of("b", 256, 250)};
  give_balloon(vms[0], 156, kSecond);
  vms[0].active_bytes = 10 * kMb;
  const uint64_t idle =
      planner.plan(host_of(HostState::kClear, 300, 60, kSecond), vms)[0].target.target_bytes;
  vms[0].active_bytes = 100 * kMb;
  const uint64_t busy =
      planner.plan(host_of(HostState::kClear, 300, 60, 2 * kSecond), vms)[0].target.target_bytes;
  EXPECT_GT(busy, idle + 10 * kMb);
}

TEST(Planner, NoBalloonTakesFromAGuestThatIsDownToItsMin) {
  const Options options;
  Planner planner(options);
  std::vector<VmSituation> vms = {vm_of("a", 256, 100), vm_of("b", 256, 250)};
  vms[0].allocation.min_bytes = 100 * kMb;
  vms[0].paged_bytes = 60 * kMb;
  vms[0].active_bytes = 0;
  give_balloon(vms[0], 10, kSecond);
  const auto decisions = planner.plan(host_of(HostState::kSoft, 260, 20, kSecond), vms);
  EXPECT_EQ(decisions[0].target.target_bytes, 102 * kMb);
  EXPECT_EQ(decisions[0].balloon.request_bytes, 10 * kMb);
  vms[0].consumed_bytes += 20 * kMb;
  vms[0].resident_bytes += 20 * kMb;
  const auto above = planner.plan(host_of(HostState::kSoft, 260, 20, 2 * kSecond), vms);
  EXPECT_GT(above[0].balloon.request_bytes, 10 * kMb);
}

TEST(Planner, AVmAboveItsLimitIsPagedAtOnceWithoutABalloonAndAfterAWhileWithOne) {
  const Options options;
  Planner planner(options);
  std::vector<VmSituation> vms = {vm_of("without", 256, 200), vm_of("with", 256, 200)};
  give_balloon(vms[1], 0, kSecond);
  for (VmSituation& vm : vms) vm.allocation.limit_bytes = 128 * kMb;
  Nanoseconds now = kSecond;
  auto decisions = planner.plan(host_of(HostState::kHigh, 4000, 3000, now), vms);
  EXPECT_EQ(decisions[0].limit_floor_bytes, 130 * kMb);
  EXPECT_GT(decisions[1].balloon.request_bytes, 0u);
  EXPECT_GT(decisions[1].limit_floor_bytes, 150 * kMb);
  for (int i = 0; i < 12; ++i) {
    now += kSecond;
    decisions = planner.plan(host_of(HostState::kHigh, 4000, 3000, now), vms);
  }
  EXPECT_EQ(decisions[1].limit_floor_bytes, 130 * kMb);  // its balloon did not move
  // Below its limit it may be above it again before the next look.
  vms[0].resident_bytes = 120 * kMb;
  vms[0].consumed_bytes = 122 * kMb;
  decisions = planner.plan(host_of(HostState::kHigh, 4000, 3000, now + kSecond), vms);
  EXPECT_EQ(decisions[0].limit_floor_bytes, 130 * kMb);
}

TEST(Planner, TargetsAreComputedWhenTheyAreDue) {
  Options options;
  Planner planner(options);
  std::vector<VmSituation> vms = {vm_of("a", 256, 100)};
  Nanoseconds now = kSecond;
  const auto target = [&](HostState state) {
    return planner.plan(host_of(state, 400, 300, now), vms)[0].target.target_bytes;
  };
  const uint64_t first = target(HostState::kHigh);
  vms[0] = vm_of("a", 256, 160);
  now += 10 * kSecond;
  EXPECT_EQ(target(HostState::kHigh), first);
  now += 5 * kSecond;
  const uint64_t second = target(HostState::kHigh);  // Mem.BalancePeriod
  EXPECT_GT(second, first);
  vms[0] = vm_of("a", 256, 200);
  EXPECT_GT(target(HostState::kClear), second);  // the state changed
  vms[0].allocation.limit_bytes = 64 * kMb;
  EXPECT_EQ(target(HostState::kClear), 66 * kMb);  // an allocation changed
  vms.push_back(vm_of("b", 256, 10));
  EXPECT_EQ(planner.plan(host_of(HostState::kClear, 400, 300, now), vms).size(), 2u);
  options.idle_tax_percent = 0;
  planner.due();
  vms.pop_back();
  EXPECT_EQ(target(HostState::kClear), 66 * kMb);
}

TEST(Planner, HardStopsBalloonsWhenAsked) {
  Options options;
  options.hard_stops_balloon = true;
  Planner planner(options);
  std::vector<VmSituation> vms = {vm_of("a", 256, 250), vm_of("b", 256, 250)};
  for (VmSituation& vm : vms) give_balloon(vm, 0, kSecond);
  const auto decisions = planner.plan(host_of(HostState::kHard, 400, 10, kSecond), vms);
  EXPECT_EQ(decisions[0].balloon.request_bytes, 0u);
}

}  // namespace
}  // namespace ballast::engine
