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

constexpr uint64_t kSeeds = 60;
constexpr uint64_t kNoFloor = ~uint64_t{0};

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

testing::Message where(const BallastRun& run, const Vm& vm) {
  return testing::Message() << vm.plan.name << " at " << run.world.now() << " s, state "
                            << engine::name_of(run.rule.state());
}

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
    const bool waits = vm.waits_for > 0;
    const bool below = vm.consumed() < vm.guaranteed() - kMb;
    // One worker of another VM brings 250 MB a second at most.
    EXPECT_LT(waiting[vm.plan.name].so(waits && below), 5 + vm.guaranteed() / (100 * kMb))
        << where(run, vm);
  }
  std::map<std::string, Streak> waiting;
};
TEST(BallastOnRandomHosts, NobodyWaitsLongBelowItsMin) { on_random_hosts<NobodyWaitsBelowMin>(); }

struct NobodyIsPagedBelowMin {
  void operator()(const BallastRun& run, const Vm& vm, const engine::VmDecision& decision) {
    EXPECT_GE(decision.target.target_bytes, to_count(vm.guaranteed()) - kPageBytes);
    if (paged_out(vm) == 0) return;
    EXPECT_GT(vm.consumed(), vm.guaranteed() - kMb) << where(run, vm);
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
    // What a guest waits for it may make room for itself, in any state.
    if (paged_out(vm) > 0 && !waited[vm.plan.name]) {
      const bool above_limit = decision.limit_floor_bytes != kNoFloor;
      if (!above_limit) {
        EXPECT_GE(state, HostState::kSoft) << where(run, vm);
      }
      const uint64_t ballooned = state <= HostState::kSoft ? decision.balloon.deliverable_bytes : 0;
      const uint64_t floor =
          std::min(decision.limit_floor_bytes, decision.target.target_bytes + ballooned);
      EXPECT_GE(vm.consumed(), to_bytes(floor) - kMb) << where(run, vm);
    }
    waited[vm.plan.name] = vm.waits_for > 0;
    const bool grows = decision.balloon.request_bytes > decision.balloon.size_bytes + kPageBytes;
    if (grows && vm.plan.allocation.limit_bytes == kNoLimit) {
      EXPECT_TRUE(state >= HostState::kSoft || run.rule.planner().expects_shortage())
          << where(run, vm);
    }
    if (vm.blocked) {
      EXPECT_EQ(state, HostState::kLow) << where(run, vm);
      EXPECT_GT(vm.consumed(), target_of(vm)) << where(run, vm);
      EXPECT_EQ(vm.lived.frames, 0) << where(run, vm);
    }
  }
  std::map<std::string, bool> waited;
};
TEST(BallastOnRandomHosts, MeansAreUsedInTheirOrder) { on_random_hosts<LadderHolds>(); }

struct LimitHolds {
  void operator()(const BallastRun& run, const Vm& vm, const engine::VmDecision&) {
    if (vm.plan.allocation.limit_bytes >= to_count(vm.plan.configured)) return;
    const Bytes limit = to_bytes(vm.plan.allocation.limit_bytes) + vm.plan.overhead;
    const bool above = vm.consumed() > limit * 1.02 + 4 * kMb;
    // Its pager works, once the balloon has had its ten seconds …
    EXPECT_LT(left_alone[vm.plan.name].so(above && paged_out(vm) == 0), 12) << where(run, vm);
    // … and gets it there, unless the guest fetches back what it needs all the time.
    const bool fits = vm.guest.wanted_hot() < limit * 0.8;
    EXPECT_LT(too_large[vm.plan.name].so(above && fits), 30) << where(run, vm);
  }
  std::map<std::string, Streak> left_alone;
  std::map<std::string, Streak> too_large;
};
TEST(BallastOnRandomHosts, LimitsHoldInEveryState) { on_random_hosts<LimitHolds>(); }

// Counts how often a number turns round, little waves aside.
class Turns {
 public:
  explicit Turns(Bytes ignored) : ignored_(ignored) {}
  int see(Bytes value) {
    low_ = std::min(low_, value);
    high_ = std::max(high_, value);
    if (direction_ >= 0 && value < high_ - ignored_) turn(-1, value);
    if (direction_ <= 0 && value > low_ + ignored_) turn(1, value);
    return turns_;
  }

 private:
  void turn(int direction, Bytes value) {
    turns_ += direction_ != 0 ? 1 : 0;
    direction_ = direction;
    low_ = high_ = value;
  }
  Bytes ignored_;
  Bytes low_ = 1e18;
  Bytes high_ = -1e18;
  int direction_ = 0;
  int turns_ = 0;
};

// Demand is constant from 200 s on.
constexpr double kSettled = 440;

TEST(BallastOnRandomHosts, NothingOscillatesUnderConstantDemand) {
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    BallastRun run(random_host(seed));
    while (run.world.now() < kSettled && run.world.step()) {
    }
    std::map<std::string, Turns> targets;
    std::map<std::string, Turns> balloons;
    while (run.world.step()) {
      for (const auto& vm : run.world.vms()) {
        const Turns none(vm->plan.configured * 0.01);
        Turns& target = targets.try_emplace(vm->plan.name, none).first->second;
        Turns& balloon = balloons.try_emplace(vm->plan.name, none).first->second;
        ASSERT_LE(target.see(target_of(*vm)), 1) << "seed " << seed << ", " << where(run, *vm);
        ASSERT_LE(balloon.see(vm->guest.balloon()), 1)
            << "seed " << seed << ", " << where(run, *vm);
      }
    }
  }
}

// Where the guests' memory fits, targets and balloons come to rest and paging out ends. (A guest
// that fetches back what was paged out is not constant demand.)
TEST(BallastOnRandomHosts, ComesToRestWhereEverythingFits) {
  int judged = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    BallastRun run(random_host(seed));
    while (run.world.now() < kSettled && run.world.step()) {
    }
    const auto fetches_back = [](const auto& vm) {
      return vm->guest.paged().total() - vm->guest.paged().stale > 5 * kMb ||
             vm->guest.missing() > 5 * kMb;
    };
    if (std::ranges::any_of(run.world.vms(), fetches_back)) continue;
    ++judged;
    std::map<std::string, Order> before;
    for (const auto& vm : run.world.vms()) before[vm->plan.name] = vm->order;
    Bytes paged = 0;
    while (run.world.step()) {
      for (const auto& vm : run.world.vms()) {
        const Order& order = before[vm->plan.name];
        const Bytes target = to_bytes(order.target_bytes);
        ASSERT_NEAR(target_of(*vm), target, target * 0.01 + kMb)
            << "seed " << seed << ", " << where(run, *vm);
        ASSERT_NEAR(to_bytes(vm->order.balloon_bytes.value_or(0)),
                    to_bytes(order.balloon_bytes.value_or(0)), vm->plan.configured * 0.01 + kMb)
            << "seed " << seed << ", " << where(run, *vm);
        paged += paged_out(*vm);
      }
    }
    ASSERT_LT(paged, kMb) << "seed " << seed;
  }
  EXPECT_GE(judged, 5);
}

TEST(Ballast, BalloonsAreAtWorkBeforeASlowRampReachesTheSoftLine) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    BallastRun run(scenario("ramp", seed));
    Bytes ballooned = 0;
    Bytes paged = 0;
    bool was_soft = false;
    while (run.world.step()) {
      // Until the step in which the state became soft.
      if (run.rule.state() >= HostState::kSoft && !was_soft) {
        EXPECT_GT(ballooned, 0) << "seed " << seed;
        was_soft = true;
      }
      ballooned = 0;
      for (const auto& vm : run.world.vms()) {
        ballooned += vm->guest.balloon();
        paged += paged_out(*vm);
      }
    }
    EXPECT_GT(ballooned, 1 * kGb) << "seed " << seed;
    EXPECT_EQ(paged, 0) << "seed " << seed;
  }
}

// One VM is ballooned for another's burst; the other gives everything back by free-page reports.
// When the first then wants more than its balloon leaves it, at `wanted_at`, it has it soon.
double seconds_until_deflated(double wanted_at) {
  HostPlan plan;
  plan.memory = 4 * kGb;
  plan.seconds = 200;
  for (const char* name : {"ballooned", "bursting"}) {
    VmPlan vm;
    vm.name = name;
    vm.configured = 4 * kGb;
    plan.vms.push_back(vm);
  }
  plan.vms[0].demand = Demand(
      {{0, 0.5 * kGb, 0.5, 0}, {wanted_at, 0.5 * kGb, 0.5, 0}, {wanted_at, 3 * kGb, 0.9, 0}});
  plan.vms[0].touched = 2.5 * kGb;
  plan.vms[1].demand = Demand({{0, 0.2 * kGb, 0.9, 0},
                               {20, 0.2 * kGb, 0.9, 0},
                               {60, 2.5 * kGb, 0.9, 0},
                               {120, 2.5 * kGb, 0.9, 0},
                               {120, 0.2 * kGb, 0.9, 0}});
  plan.vms[1].reports_free = true;
  plan.steps = {{0, wanted_at}};
  BallastRun run(plan);
  Measures measures(run.world);
  const Vm& ballooned = *run.world.find(run.plan.vms[0]);
  while (run.world.now() < 119) run.world.step();
  EXPECT_GT(ballooned.guest.balloon(), 1.2 * kGb);
  while (run.world.step()) measures.observe();
  EXPECT_EQ(measures.figures().steps_missed, 0);
  return measures.figures().worst_step;
}
TEST(Ballast, BalloonsDeflatePromptlyWhenMemoryIsFree) {
  for (double wanted_at = 121; wanted_at < 140; wanted_at += 1) {
    EXPECT_LT(seconds_until_deflated(wanted_at), 6) << wanted_at;
  }
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
