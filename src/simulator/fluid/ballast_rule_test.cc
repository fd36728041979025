// What Ballast's policy promises over time, on hosts drawn from seeds (random_host).
#include "simulator/fluid/rules/ballast_rule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "simulator/fluid/measures.h"
#include "simulator/fluid/scenarios.h"

namespace ballast::simulator::fluid {
namespace {

using engine::HostState;

constexpr uint64_t kSeeds = 80;

struct BallastRun {
  explicit BallastRun(HostPlan host_plan)
      : plan(std::move(host_plan)), rule(plan.options), world(plan, rule) {}

  HostPlan plan;
  BallastRule rule;
  World world;
};

HostPlan scenario(std::string_view name, uint64_t seed = 1) {
  for (const ScenarioInfo& info : all_scenarios()) {
    if (info.name == name) return info.make(seed);
  }
  ADD_FAILURE() << "no scenario " << name;
  return {};
}

Bytes paged_out(const Vm& vm) { return vm.zipped_out + vm.swapped_out; }
Bytes target_of(const Vm& vm) { return to_bytes(vm.order.target_bytes); }

// A new Check looks at each step of each seed's host.
template <typename Check>
void on_random_hosts() {
  for (uint64_t seed = 1; seed <= kSeeds && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    BallastRun run(random_host(seed));
    Check check;
    while (run.world.step() && !testing::Test::HasFailure()) {
      const auto vms = run.world.vms();
      const auto decisions = run.rule.decisions();
      // A VM that booted in this step is decided about in it, too.
      ASSERT_EQ(vms.size(), decisions.size());
      for (size_t i = 0; i < vms.size(); ++i) check(run, *vms[i], decisions[i]);
    }
  }
}

// How long something has been so.
class Streak {
 public:
  double so(bool it_is) { return seconds_ = it_is ? seconds_ + kStep : 0; }

 private:
  double seconds_ = 0;
};

struct NobodyWaitsBelowMin {
  void operator()(const BallastRun& run, const Vm& vm, const engine::VmDecision&) {
    const bool waits = vm.lived.host_stall > 0.1 * kStep;
    const bool below = vm.consumed() < vm.guaranteed() - kMb;
    EXPECT_LT(waiting[vm.plan.name].so(waits && below), 3)
        << vm.plan.name << " at " << run.world.now() << " s";
  }
  std::map<std::string, Streak> waiting;
};
TEST(BallastOnRandomHosts, NobodyWaitsLongBelowItsMin) { on_random_hosts<NobodyWaitsBelowMin>(); }

struct NobodyIsPagedBelowMin {
  void operator()(const BallastRun& run, const Vm& vm, const engine::VmDecision& decision) {
    EXPECT_GE(decision.target.target_bytes, to_count(vm.guaranteed()) - kPageBytes);
    if (paged_out(vm) == 0) return;
    EXPECT_GT(vm.consumed(), vm.guaranteed() - kMb)
        << vm.plan.name << " at " << run.world.now() << " s";
  }
};
TEST(BallastOnRandomHosts, NobodyIsPagedBelowItsMin) { on_random_hosts<NobodyIsPagedBelowMin>(); }

struct TargetsFit {
  void operator()(const BallastRun& run, const Vm& vm, const engine::VmDecision&) {
    EXPECT_GE(run.world.free(), -1);
    if (&vm != run.world.vms().front().get()) return;
    // Each is at least its min, though the VM may not want it now: what is not wanted is lent.
    Bytes sum = 0;
    for (size_t i = 0; i < run.world.vms().size(); ++i) {
      const engine::VmTarget& target = run.rule.decisions()[i].target;
      sum += to_bytes(std::min(target.target_bytes, target.want_bytes));
    }
    EXPECT_LE(sum, to_bytes(run.rule.divided_bytes()) + kMb) << "at " << run.world.now() << " s";
  }
};
TEST(BallastOnRandomHosts, ConsumptionAndTargetsFitTheMemory) { on_random_hosts<TargetsFit>(); }

struct LadderHolds {
  void operator()(const BallastRun& run, const Vm& vm, const engine::VmDecision& decision) {
    const HostState state = run.rule.state();
    SCOPED_TRACE(testing::Message()
                 << vm.plan.name << " at " << run.world.now() << " s, " << engine::name_of(state));
    const bool limited = decision.limit_floor_bytes != engine::kNoFloor;
    const Bytes left = vm.consumed() + kMb;
    if (paged_out(vm) > 0 && !limited) {
      EXPECT_GE(state, HostState::kSoft);
      // In the soft state only what the balloon cannot take.
      EXPECT_GE(left, state == HostState::kSoft
                          ? target_of(vm) + to_bytes(decision.balloon.deliverable_bytes)
                          : target_of(vm));
    }
    if (paged_out(vm) > 0 && limited && state <= HostState::kClear) {
      EXPECT_GE(left, to_bytes(vm.plan.allocation.limit_bytes) + vm.plan.overhead);
    }
    const bool grows = decision.balloon.request_bytes > decision.balloon.size_bytes + kPageBytes;
    if (grows && vm.plan.allocation.limit_bytes == kNoLimit) {
      EXPECT_TRUE(state >= HostState::kSoft || run.rule.planner().expects_shortage());
    }
    const auto before = consumed_before.find(vm.plan.name);
    if (before != consumed_before.end()) {
      EXPECT_EQ(vm.order.blocked, state == HostState::kLow && before->second > target_of(vm));
    }
    if (vm.order.blocked) {
      EXPECT_EQ(vm.lived.frames, 0);
    }
    consumed_before[vm.plan.name] = vm.consumed();
  }
  std::map<std::string, Bytes> consumed_before;
};
TEST(BallastOnRandomHosts, MeansAreUsedInTheirOrder) { on_random_hosts<LadderHolds>(); }

struct LimitHolds {
  void operator()(const BallastRun& run, const Vm& vm, const engine::VmDecision&) {
    if (vm.plan.allocation.limit_bytes >= to_count(vm.plan.configured)) return;
    const Bytes limit = to_bytes(vm.plan.allocation.limit_bytes) + vm.plan.overhead;
    EXPECT_LT(above[vm.plan.name].so(vm.consumed() > limit * 1.02 + 4 * kMb), 30)
        << vm.plan.name << " at " << run.world.now() << " s, " << engine::name_of(run.rule.state());
  }
  std::map<std::string, Streak> above;
};
TEST(BallastOnRandomHosts, LimitsHoldInEveryState) { on_random_hosts<LimitHolds>(); }

// Demand is constant from 200 s on. Where everything fits, targets and balloons come to rest and
// paging out ends.
TEST(BallastOnRandomHosts, ComesToRestUnderConstantDemand) {
  int judged = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    BallastRun run(random_host(seed));
    while (run.world.now() < run.plan.seconds - 60 && run.world.step()) {
    }
    Bytes wanted = 0;
    for (const auto& vm : run.world.vms()) {
      wanted += vm->plan.overhead +
                std::min(vm->guest.wanted() + vm->guest.wanted_cache(),
                         to_bytes(max_bytes(vm->plan.allocation, to_count(vm->plan.configured))));
    }
    if (wanted > to_bytes(run.rule.divided_bytes()) * 0.9) continue;
    ++judged;
    std::vector<Bytes> targets;
    std::vector<Bytes> requests;
    for (const auto& vm : run.world.vms()) {
      targets.push_back(target_of(*vm));
      requests.push_back(to_bytes(vm->order.balloon_bytes.value_or(0)));
    }
    Bytes paged = 0;
    while (run.world.step()) {
      for (size_t i = 0; i < targets.size(); ++i) {
        const Vm& vm = *run.world.vms()[i];
        paged += paged_out(vm);
        EXPECT_NEAR(target_of(vm), targets[i], targets[i] * 0.01 + kMb) << vm.plan.name;
        EXPECT_NEAR(to_bytes(vm.order.balloon_bytes.value_or(0)), requests[i],
                    vm.plan.configured * 0.01 + kMb)
            << vm.plan.name;
      }
      if (testing::Test::HasFailure()) break;
    }
    EXPECT_LT(paged, kMb);
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(judged, 10);
}

TEST(Ballast, BalloonsAreAtWorkBeforeASlowRampReachesTheSoftLine) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    BallastRun run(scenario("ramp", seed));
    Bytes ballooned_at_soft = -1;
    Bytes paged = 0;
    while (run.world.step()) {
      Bytes ballooned = 0;
      for (const auto& vm : run.world.vms()) {
        ballooned += vm->guest.balloon();
        paged += paged_out(*vm);
      }
      if (run.rule.state() >= HostState::kSoft && ballooned_at_soft < 0) {
        ballooned_at_soft = ballooned;
      }
    }
    EXPECT_NE(ballooned_at_soft, 0) << "seed " << seed;
    EXPECT_EQ(paged, 0) << "seed " << seed;
  }
}

// One VM is ballooned for another's burst; the other gives everything back by free-page reports.
TEST(Ballast, BalloonsDeflatePromptlyWhenMemoryIsFree) {
  HostPlan plan;
  plan.memory = 4 * kGb;
  plan.seconds = 200;
  for (const char* name : {"ballooned", "bursting"}) {
    VmPlan vm;
    vm.name = name;
    vm.configured = 4 * kGb;
    plan.vms.push_back(vm);
  }
  plan.vms[0].demand = Demand({{0, 0.5 * kGb, 0.5, 0}});
  plan.vms[0].touched = 2.5 * kGb;
  plan.vms[1].demand = Demand({{0, 0.2 * kGb, 0.9, 0},
                               {20, 0.2 * kGb, 0.9, 0},
                               {60, 2.5 * kGb, 0.9, 0},
                               {120, 2.5 * kGb, 0.9, 0},
                               {120, 0.2 * kGb, 0.9, 0}});
  plan.vms[1].reports_free = true;
  BallastRun run(plan);
  const Vm& ballooned = *run.world.find(run.plan.vms[0]);
  while (run.world.now() < 119) run.world.step();
  EXPECT_GT(ballooned.guest.balloon(), 0.8 * kGb);
  while (run.world.now() < 130) run.world.step();
  EXPECT_LT(ballooned.guest.balloon(), 0.1 * kGb);
}

TEST(Ballast, NobodyIsBelowHisMinInAnyScenario) {
  for (const ScenarioInfo& info : all_scenarios()) {
    BallastRun run(info.make(1));
    Measures measures(run.world);
    while (run.world.step()) measures.observe();
    EXPECT_EQ(measures.figures().below_min, 0) << info.name;
  }
}

}  // namespace
}  // namespace ballast::simulator::fluid
