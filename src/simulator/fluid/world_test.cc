// The fluid host itself: amounts add up, drivers and pagers keep their rates, demand is replayed.
#include "simulator/fluid/world.h"

#include <gtest/gtest.h>

#include <cmath>

#include "simulator/fluid/measures.h"
#include "simulator/fluid/rules/peers.h"
#include "simulator/fluid/scenarios.h"

namespace ballast::simulator::fluid {
namespace {

VmPlan vm_plan(std::string name, Bytes configured, std::vector<DemandPoint> demand) {
  VmPlan plan;
  plan.name = std::move(name);
  plan.configured = configured;
  plan.demand = Demand(std::move(demand));
  return plan;
}

// What a test orders.
class Puppet : public Rule {
 public:
  explicit Puppet(Pager pager) : pager_(pager) {}
  Pager pager() const override { return pager_; }
  uint64_t paging_stops_at() const override { return stop; }
  void act(const HostSeen&, std::span<const VmSeen>, std::span<Order> orders) override {
    for (Order& all : orders) all = order;
  }
  Order order;
  uint64_t stop = 0;

 private:
  Pager pager_;
};

struct OneVm {
  explicit OneVm(VmPlan vm, Rule::Pager pager = Rule::Pager::kKernel, Bytes memory = 8 * kGb)
      : rule(pager) {
    plan.memory = memory;
    plan.vms.push_back(std::move(vm));
    world = std::make_unique<World>(plan, rule);
  }
  void run(double seconds) {
    for (int i = 0; i < std::lround(seconds / kStep); ++i) world->step();
  }
  const Vm& vm() const { return *world->vms()[0]; }
  const Guest& guest() const { return vm().guest; }

  HostPlan plan;
  Puppet rule;
  std::unique_ptr<World> world;
};

TEST(Demand, IsLinearBetweenPointsAndJumpsBetweenTwoAtOnce) {
  const Demand demand({{10, 100, 0, 0}, {20, 200, 1, 0}, {20, 500, 1, 0}});
  EXPECT_EQ(demand.at(0).used, 100);
  EXPECT_EQ(demand.at(15).used, 150);
  EXPECT_EQ(demand.at(15).active, 0.5);
  EXPECT_EQ(demand.at(20).used, 500);
  EXPECT_EQ(demand.at(99).used, 500);
}

TEST(Guest, WhatItFreesStaysConsumedUntilItIsBallooned) {
  VmPlan plan =
      vm_plan("a", 4 * kGb, {{0, 2 * kGb, 0.5, 0}, {1, 2 * kGb, 0.5, 0}, {1, kGb, 0.5, 0}});
  OneVm host(plan);
  host.run(3);
  EXPECT_NEAR(host.guest().resident().stale, kGb, kMb);
  EXPECT_NEAR(host.guest().resident().total(), 2 * kGb, kMb);
  host.rule.order.balloon_bytes = to_count(512 * kMb);
  host.run(10);
  EXPECT_NEAR(host.guest().resident().total(), 1.5 * kGb, kMb);
}

TEST(Guest, FreePageReportsGiveBackWhatItFrees) {
  VmPlan plan =
      vm_plan("a", 4 * kGb, {{0, 2 * kGb, 0.5, 0}, {1, 2 * kGb, 0.5, 0}, {1, kGb, 0.5, 0}});
  plan.reports_free = true;
  OneVm host(plan);
  host.run(5);
  EXPECT_NEAR(host.guest().resident().total(), kGb, kMb);
}

TEST(Guest, UsesAgainWhatItFreedBeforeItTouchesMore) {
  VmPlan plan = vm_plan("a", 4 * kGb, {{0, kGb, 0.5, 0}, {1, kGb, 0.5, 0}, {1, 2 * kGb, 0.5, 0}});
  plan.touched = 700 * kMb;
  OneVm host(plan);
  host.run(5);
  EXPECT_NEAR(host.guest().resident().total(), 2 * kGb, kMb);
  EXPECT_NEAR(host.guest().resident().stale, 0, kMb);
}

TEST(Driver, TakesFreeMemoryAt64MbAndPressesAt2To8) {
  VmPlan plan = vm_plan("a", kGb, {{0, 300 * kMb, 0.2, 300 * kMb}});
  OneVm host(plan);
  host.rule.order.balloon_bytes = to_count(900 * kMb);
  host.run(5);
  EXPECT_NEAR(host.guest().balloon(), 320 * kMb, 7 * kMb);
  host.run(1);  // 424 MB were free, 16 of them it keeps
  host.run(3);
  const Bytes free_taken = host.guest().balloon();
  EXPECT_NEAR(free_taken, 412 * kMb, 15 * kMb);
  host.run(10);
  EXPECT_GT(host.guest().balloon() - free_taken, 20 * kMb);
  EXPECT_LT(host.guest().balloon() - free_taken, 80 * kMb);
  EXPECT_LT(host.guest().cache(), 300 * kMb);
  host.rule.order.balloon_bytes = 0;
  host.run(2);
  EXPECT_EQ(host.guest().balloon(), 0);
}

TEST(Driver, MayBeStuckSlowDeafLateMissingOrLie) {
  const auto balloon_after = [](DriverPlan driver, double seconds) {
    VmPlan plan = vm_plan("a", 2 * kGb, {{0, 200 * kMb, 0.5, 0}});
    plan.driver = driver;
    OneVm host(plan);
    host.rule.order.balloon_bytes = to_count(kGb);
    host.run(seconds);
    const machine::BalloonView view = host.vm().driver.view();
    const Bytes shown = view.link == machine::BalloonView::Link::kReady
                            ? 2 * kGb - to_bytes(view.actual_bytes)
                            : -1;
    return std::pair(std::round(host.guest().balloon() / kMb), std::round(shown / kMb));
  };
  using Kind = DriverPlan::Kind;
  EXPECT_EQ(balloon_after({}, 10), std::pair(640.0, 640.0));
  EXPECT_EQ(balloon_after({.stuck_at = 100 * kMb}, 10), std::pair(100.0, 100.0));
  EXPECT_EQ(balloon_after({.kind = Kind::kSlow}, 10), std::pair(64.0, 64.0));
  EXPECT_EQ(balloon_after({.deaf_from = 0, .deaf_until = 5}, 10), std::pair(320.0, 320.0));
  EXPECT_EQ(balloon_after({.shows_after = 5}, 10), std::pair(320.0, 320.0));
  EXPECT_EQ(balloon_after({.kind = Kind::kNone}, 10).first, 0.0);
  EXPECT_EQ(balloon_after({.kind = Kind::kLiar}, 10), std::pair(0.0, 1024.0));
}

TEST(Pager, OursGoesDownToTheFloorAtItsRateAndNeverBelowMin) {
  VmPlan plan = vm_plan("a", 4 * kGb, {{0, 3 * kGb, 0.1, 0}});
  plan.allocation.min_bytes = to_count(2 * kGb);
  OneVm host(plan, Rule::Pager::kOwn, 4 * kGb);
  host.rule.stop = to_count(2 * kGb);
  host.rule.order.floor_bytes = to_count(2.5 * kGb);
  host.run(1);
  // 250 MB/s, of which what is compressed keeps two fifths.
  EXPECT_NEAR(host.guest().paged().total(), 250 * kMb, 15 * kMb);
  host.run(20);
  EXPECT_NEAR(host.vm().consumed(), 2.5 * kGb, 10 * kMb);
  host.rule.order.floor_bytes = 0;
  host.run(20);
  EXPECT_GT(host.vm().consumed(), host.vm().guaranteed() - kMb);
}

TEST(Pager, OursStopsWhenTheHostHasEnough) {
  VmPlan plan = vm_plan("a", 4 * kGb, {{0, 3 * kGb, 0.1, 0}});
  OneVm host(plan, Rule::Pager::kOwn, 4 * kGb);
  host.rule.stop = to_count(1.2 * kGb);
  host.rule.order.floor_bytes = 0;
  host.run(10);
  EXPECT_NEAR(host.world->free(), 1.2 * kGb, 5 * kMb);
}

TEST(Pager, TheKernelTakesTheColdestWhenFreeMemoryIsLow) {
  VmPlan plan = vm_plan("a", 4 * kGb, {{0, kGb, 0.5, 0}, {10, 3.5 * kGb, 0.2, 0}});
  OneVm host(plan, Rule::Pager::kKernel, 3 * kGb);
  host.run(60);
  EXPECT_GT(host.guest().paged().cold, 400 * kMb);
  EXPECT_LT(host.guest().paged().hot, 30 * kMb);
  EXPECT_GT(host.world->free(), 0);
}

TEST(World, WhoeverFindsNoMemoryWaitsAndIsCounted) {
  HostPlan plan;
  plan.memory = 2 * kGb;
  plan.seconds = 20;
  plan.vms = {vm_plan("a", 4 * kGb, {{0, kGb, 1, 0}, {1, kGb, 1, 0}, {1, 3 * kGb, 1, 0}})};
  plan.steps = {{0, 1}};
  Puppet rule(Rule::Pager::kOwn);  // orders nothing
  World world(plan, rule);
  Measures measures(world);
  while (world.step()) measures.observe();
  const Figures figures = measures.figures();
  EXPECT_EQ(figures.steps_missed, 1);
  EXPECT_GT(figures.host_stall, 5);
  EXPECT_GE(figures.lowest_free, 0);
}

TEST(World, NeverSpendsMoreThanTheHostHas) {
  for (const RuleInfo& info : all_rules()) {
    for (uint64_t seed = 1; seed <= 10; ++seed) {
      const HostPlan plan = random_host(seed);
      const auto rule = info.make(plan.options);
      World world(plan, *rule);
      while (world.step()) {
        ASSERT_GE(world.free(), -1) << info.name << " seed " << seed << " at " << world.now();
      }
    }
  }
}

TEST(World, TheSameSeedGivesTheSameFigures) {
  for (const RuleInfo& info : all_rules()) {
    const auto figures = [&] {
      const HostPlan plan = random_host(5);
      const auto rule = info.make(plan.options);
      World world(plan, *rule);
      Measures measures(world);
      while (world.step()) measures.observe();
      return measures.figures();
    };
    const Figures first = figures();
    const Figures again = figures();
    EXPECT_EQ(first.host_stall, again.host_stall) << info.name;
    EXPECT_EQ(first.swapped_out, again.swapped_out) << info.name;
    EXPECT_EQ(first.mean_free, again.mean_free) << info.name;
  }
}

TEST(Measures, UnfairnessIsTheDistanceFromTheSharesPart) {
  // Balloons leave one VM 3 GB, the other 1 GB; then both want 4 GB with equal shares.
  HostPlan plan;
  plan.memory = 8 * kGb;
  plan.seconds = 70;
  plan.vms = {vm_plan("a", 6 * kGb, {{0, 3 * kGb, 1, 0}, {55, 3 * kGb, 1, 0}, {55, 4 * kGb, 1, 0}}),
              vm_plan("b", 4 * kGb, {{0, kGb, 1, 0}, {55, kGb, 1, 0}, {55, 4 * kGb, 1, 0}})};
  for (VmPlan& vm : plan.vms) vm.allocation.shares = {ShareLevel::kCustom, 1000};
  Puppet rule(Rule::Pager::kKernel);
  rule.order.balloon_bytes = to_count(3 * kGb);
  World world(plan, rule);
  Measures measures(world);
  while (world.step()) measures.observe();
  EXPECT_NEAR(measures.figures().contended, 15, 1);
  EXPECT_NEAR(measures.figures().unfairness, 0.5, 0.01);
}

TEST(Measures, OvershootIsWhatLiesFreeWhileSomebodyLacksIt) {
  VmPlan vm = vm_plan("a", 4 * kGb, {{0, kGb, 0.5, 2 * kGb}});
  OneVm host(vm, Rule::Pager::kKernel, 6 * kGb);
  host.plan.seconds = 30;
  Measures measures(*host.world);
  host.rule.order.balloon_bytes = to_count(3 * kGb);
  while (host.world->step()) measures.observe();
  // The balloon took cache that nobody needed.
  EXPECT_GT(measures.figures().overshoot_peak, 5 * kMb);
  EXPECT_GT(measures.figures().overshoot, 0.01);
}

}  // namespace
}  // namespace ballast::simulator::fluid
