#include "engine/policy/targets.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <numeric>

namespace ballast::engine {
namespace {

constexpr uint64_t kMb = uint64_t{1} << 20;
constexpr uint64_t kGb = uint64_t{1} << 30;

uint64_t sum(const std::vector<uint64_t>& values) {
  return std::accumulate(values.begin(), values.end(), uint64_t{0});
}

std::vector<Demand> any_vms() {
  const auto count = *rc::gen::inRange<size_t>(1, 12);
  std::vector<Demand> vms;
  for (size_t i = 0; i < count; ++i) {
    Demand vm;
    vm.configured_bytes = *rc::gen::inRange<uint64_t>(1, uint64_t{1} << 24) * 4096;
    vm.min_bytes = *rc::gen::inRange<uint64_t>(0, vm.configured_bytes / 4096 + 1) * 4096;
    if (*rc::gen::inRange(0, 3) > 0) vm.min_bytes /= 16;
    vm.consumed_bytes = *rc::gen::inRange<uint64_t>(0, vm.configured_bytes + 1);
    vms.push_back(vm);
  }
  return vms;
}

RC_GTEST_PROP(TargetsProperty, LiveWithinMemoryMinAndConfigured, ()) {
  const auto vms = any_vms();
  const auto memory = *rc::gen::inRange<uint64_t>(0, uint64_t{1} << 40);
  const auto result = targets(memory, vms);
  RC_ASSERT(result.size() == vms.size());
  uint64_t mins = 0;
  for (size_t i = 0; i < vms.size(); ++i) {
    RC_ASSERT(result[i] >= vms[i].min_bytes);
    RC_ASSERT(result[i] <= vms[i].configured_bytes);
    mins += vms[i].min_bytes;
  }
  RC_ASSERT(sum(result) <= std::max(memory, mins));
}

RC_GTEST_PROP(TargetsProperty, EverybodyWhoWantsMoreGetsHisPart, ()) {
  const auto vms = any_vms();
  const auto memory = *rc::gen::inRange<uint64_t>(0, uint64_t{1} << 40);
  const auto result = targets(memory, vms);
  uint64_t mins = 0;
  long double weight = 0;
  for (const Demand& vm : vms) {
    mins += vm.min_bytes;
    weight += static_cast<long double>(vm.configured_bytes);
  }
  const uint64_t rest = memory > mins ? memory - mins : 0;
  for (size_t i = 0; i < vms.size(); ++i) {
    const auto part =
        static_cast<uint64_t>(static_cast<long double>(rest) *
                              static_cast<long double>(vms[i].configured_bytes) / weight);
    const uint64_t entitled = std::min(vms[i].configured_bytes, vms[i].min_bytes + part);
    RC_ASSERT(result[i] + 16 >=
              std::min(entitled, std::max(vms[i].consumed_bytes, vms[i].min_bytes)));
  }
}

RC_GTEST_PROP(TargetsProperty, MoreMemoryTakesFromNobody, ()) {
  const auto vms = any_vms();
  const auto memory = *rc::gen::inRange<uint64_t>(0, uint64_t{1} << 40);
  const auto more = memory + *rc::gen::inRange<uint64_t>(0, uint64_t{1} << 36);
  const auto before = targets(memory, vms);
  const auto after = targets(more, vms);
  for (size_t i = 0; i < vms.size(); ++i) {
    // A VM that wanted more than its part had a target up to its configured size; once its wish is
    // met the target is what it holds.
    RC_ASSERT(after[i] + 16 >=
              std::min(before[i], std::max(vms[i].consumed_bytes, vms[i].min_bytes)));
  }
}

TEST(Targets, EqualVmsGetEqualParts) {
  const std::vector<Demand> vms(4, {256 * kMb, 0, 256 * kMb});
  for (const uint64_t target : targets(512 * kMb, vms)) EXPECT_EQ(target, 128 * kMb);
}

TEST(Targets, PartsFollowTheConfiguredSize) {
  const std::vector<Demand> vms = {{1 * kGb, 0, 1 * kGb}, {3 * kGb, 0, 3 * kGb}};
  EXPECT_EQ(targets(2 * kGb, vms), (std::vector<uint64_t>{512 * kMb, 1536 * kMb}));
}

TEST(Targets, MinsComeFirst) {
  const std::vector<Demand> vms = {{1 * kGb, 600 * kMb, 1 * kGb}, {1 * kGb, 0, 1 * kGb}};
  EXPECT_EQ(targets(1000 * kMb, vms), (std::vector<uint64_t>{800 * kMb, 200 * kMb}));
}

TEST(Targets, AnIdleVmLeavesItsPartToTheOthers) {
  const std::vector<Demand> vms = {
      {1 * kGb, 0, 100 * kMb}, {1 * kGb, 0, 1 * kGb}, {1 * kGb, 0, 1 * kGb}};
  const auto result = targets(1500 * kMb, vms);
  EXPECT_EQ(result[0], 100 * kMb);
  EXPECT_EQ(result[1], 700 * kMb);
  EXPECT_EQ(result[2], 700 * kMb);
}

TEST(Targets, MinsAreKeptEvenWhenMemoryIsShort) {
  const std::vector<Demand> vms = {{1 * kGb, 600 * kMb, 1 * kGb}, {1 * kGb, 600 * kMb, 0}};
  EXPECT_EQ(targets(1000 * kMb, vms), (std::vector<uint64_t>{600 * kMb, 600 * kMb}));
}

TEST(Targets, NobodyAndNothing) {
  EXPECT_TRUE(targets(1 * kGb, {}).empty());
  const std::vector<Demand> vm = {{1 * kGb, 0, 1 * kGb}};
  EXPECT_EQ(targets(0, vm), (std::vector<uint64_t>{0}));
}

TEST(BudgetState, ChangesAtTheThresholds) {
  const uint64_t min_free = 1000;
  const auto is = [&](uint64_t free, const char* state) {
    EXPECT_STREQ(budget_state(free, min_free), state) << free;
  };
  is(1'000'000, "high");
  is(4000, "high");
  is(3999, "clear");
  is(1000, "clear");
  is(999, "soft");
  is(640, "soft");
  is(639, "hard");
  is(320, "hard");
  is(319, "low");
  is(0, "low");
}

}  // namespace
}  // namespace ballast::engine
