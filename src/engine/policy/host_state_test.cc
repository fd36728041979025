#include "engine/policy/host_state.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace ballast::engine {
namespace {

constexpr uint64_t kMb = uint64_t{1} << 20;
constexpr uint64_t kGb = uint64_t{1} << 30;
constexpr uint64_t kMost = ~uint64_t{0};

double mb(uint64_t bytes) { return static_cast<double>(bytes) / static_cast<double>(kMb); }

TEST(MinFree, SlidingScale) {
  const auto is = [](uint64_t memory, double expected_mb) {
    EXPECT_NEAR(mb(min_free_bytes(memory, 0)), expected_mb, 1e-6) << memory;
  };
  is(0, 0);
  is(1 * kGb, 61.44);
  is(4 * kGb, 245.76);
  is(12 * kGb, 573.44);
  is(28 * kGb, 901.12);
  is(100 * kGb, 1638.4);
  is(128 * kGb, 1925.12);
}

TEST(MinFree, SlidingScaleIsExactToTheByte) {
  EXPECT_EQ(min_free_bytes(28 * kGb, 0), 944'892'805u);  // 944'892'805.12
  EXPECT_EQ(min_free_bytes(4 * kGb + 1, 0), 257'698'037u);
  EXPECT_EQ(min_free_bytes(kMost, 0), (kMost - 28 * kGb) / 100 + 944'892'805u);
}

TEST(MinFree, PercentOfEverything) {
  EXPECT_EQ(min_free_bytes(100 * kGb, 6), 6 * kGb);
  EXPECT_EQ(min_free_bytes(1000, 50), 500u);
  EXPECT_EQ(min_free_bytes(199, 50), 99u);
  EXPECT_EQ(min_free_bytes(kMost, 99), kMost / 100 * 99 + 15 * 99 / 100);
}

RC_GTEST_PROP(MinFreeProperty, GrowsWithMemory, ()) {
  const auto memory = *rc::gen::inRange<uint64_t>(0, uint64_t{1} << 44);
  const auto more = memory + *rc::gen::inRange<uint64_t>(0, uint64_t{1} << 40);
  RC_ASSERT(min_free_bytes(memory, 0) <= min_free_bytes(more, 0));
  RC_ASSERT(min_free_bytes(memory, 0) <= memory * 6 / 100);
}

TEST(HostStates, HaveTheNamesThatOperatorsKnow) {
  std::string all;
  for (size_t i = 0; i < kHostStates; ++i) {
    all += name_of(static_cast<HostState>(i));
    all += ' ';
  }
  EXPECT_EQ(all, "high clear soft hard low ");
}

struct Row {
  uint64_t free;
  HostState state;
};

// From above: each row is reached from every state higher than it, directly.
void falls(const Thresholds& thresholds, const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    SCOPED_TRACE(row.free);
    EXPECT_EQ(next_state(HostState::kHigh, row.free, thresholds), row.state);
  }
}

// esxi6 over 10000 bytes of memory with 10 %: minFree is 1000 bytes.
Thresholds of_min_free_1000(uint64_t floor_bytes = 0) {
  return make_thresholds(ThresholdSet::kEsxi6, 10'000, 10, floor_bytes);
}

TEST(Esxi6, Thresholds) {
  const Thresholds t = of_min_free_1000();
  EXPECT_EQ(t.enter, (std::array<uint64_t, kHostStates>{4000, 1000, 640, 320, 160}));
  // Each where the threshold above it lies.
  EXPECT_EQ(t.leave, (std::array<uint64_t, kHostStates>{kMost, 4000, 1000, 640, 320}));
}

TEST(Esxi6, FallsMayCrossSeveralStates) {
  falls(of_min_free_1000(), {{kMost, HostState::kHigh},
                             {1000, HostState::kHigh},
                             {999, HostState::kClear},
                             {640, HostState::kClear},
                             {639, HostState::kSoft},
                             {320, HostState::kSoft},
                             {319, HostState::kHard},
                             {160, HostState::kHard},
                             {159, HostState::kLow},
                             {0, HostState::kLow}});
}

TEST(Esxi6, RisesOneStateAtATime) {
  const Thresholds t = of_min_free_1000();
  HostState state = HostState::kLow;
  for (const HostState next : {HostState::kHard, HostState::kSoft, HostState::kClear,
                               HostState::kHigh, HostState::kHigh}) {
    state = next_state(state, 1'000'000, t);
    EXPECT_EQ(state, next);
  }
}

TEST(Esxi6, RisesOnlyPastTheMargin) {
  const Thresholds t = of_min_free_1000();
  const auto rises_at = [&](HostState from, uint64_t free, HostState to) {
    SCOPED_TRACE(name_of(from));
    EXPECT_EQ(next_state(from, free - 1, t), from);
    EXPECT_EQ(next_state(from, free, t), to);
  };
  rises_at(HostState::kLow, 320, HostState::kHard);
  rises_at(HostState::kHard, 640, HostState::kSoft);
  rises_at(HostState::kSoft, 1000, HostState::kClear);
  rises_at(HostState::kClear, 4000, HostState::kHigh);
}

TEST(Esxi6, TheSlidingScaleIsTheBase) {
  const Thresholds t = make_thresholds(ThresholdSet::kEsxi6, 28 * kGb, 0, 0);
  EXPECT_NEAR(mb(t.enter_of(HostState::kHigh)), 4 * 901.12, 1e-5);
  EXPECT_NEAR(mb(t.enter_of(HostState::kClear)), 901.12, 1e-5);
  EXPECT_NEAR(mb(t.enter_of(HostState::kSoft)), 0.64 * 901.12, 1e-5);
  EXPECT_NEAR(mb(t.enter_of(HostState::kHard)), 0.32 * 901.12, 1e-5);
  EXPECT_NEAR(mb(t.enter_of(HostState::kLow)), 0.16 * 901.12, 1e-5);
}

TEST(Osdi02, Thresholds) {
  const Thresholds t = make_thresholds(ThresholdSet::kOsdi02, 10'000, 33, 0);
  EXPECT_EQ(t.enter, (std::array<uint64_t, kHostStates>{600, 400, 400, 200, 100}));
  EXPECT_EQ(t.leave[2], 600u);  // the gap reaches past clear
  EXPECT_EQ(t.leave[3], 400u);
  EXPECT_EQ(t.leave[4], 200u);
}

TEST(Osdi02, FallsMayCrossSeveralStates) {
  falls(make_thresholds(ThresholdSet::kOsdi02, 10'000, 0, 0), {{kMost, HostState::kHigh},
                                                               {400, HostState::kHigh},
                                                               {399, HostState::kSoft},
                                                               {200, HostState::kSoft},
                                                               {199, HostState::kHard},
                                                               {100, HostState::kHard},
                                                               {99, HostState::kLow},
                                                               {0, HostState::kLow}});
}

TEST(Osdi02, RisesOneStateAtATimeAndHasNoClear) {
  const Thresholds t = make_thresholds(ThresholdSet::kOsdi02, 10'000, 0, 0);
  EXPECT_EQ(next_state(HostState::kLow, 5000, t), HostState::kHard);
  EXPECT_EQ(next_state(HostState::kHard, 5000, t), HostState::kSoft);
  EXPECT_EQ(next_state(HostState::kSoft, 599, t), HostState::kSoft);
  EXPECT_EQ(next_state(HostState::kSoft, 600, t), HostState::kHigh);
  // Clear when the set was changed: left at once, whatever is free.
  EXPECT_EQ(next_state(HostState::kClear, 420, t), HostState::kHigh);
  EXPECT_EQ(next_state(HostState::kClear, 399, t), HostState::kSoft);
}

TEST(Thresholds, AllLieAboveTheFloor) {
  const Thresholds plain = of_min_free_1000();
  const Thresholds raised = of_min_free_1000(77);
  EXPECT_EQ(raised.enter[0], plain.enter[0] + 77);
  for (size_t i = 1; i < kHostStates; ++i) {
    EXPECT_EQ(raised.enter[i], plain.enter[i] + 77);
    EXPECT_EQ(raised.leave[i], plain.leave[i] + 77);
  }
}

TEST(Thresholds, SurviveAbsurdSizes) {
  for (const ThresholdSet set : {ThresholdSet::kEsxi6, ThresholdSet::kOsdi02}) {
    for (const uint64_t memory : {uint64_t{0}, uint64_t{1}, uint64_t{99}, kMost}) {
      for (const uint64_t floor : {uint64_t{0}, kMost}) {
        for (const uint32_t percent : {0u, 99u}) {
          const Thresholds t = make_thresholds(set, memory, percent, floor);
          for (size_t i = 1; i < kHostStates; ++i) {
            EXPECT_LE(t.enter[i], t.enter[i - 1]);
            EXPECT_LE(t.enter[i], t.leave[i]);
            EXPECT_LE(t.leave[i], std::max(t.enter[i - 1], t.leave[i - 1]));
          }
          EXPECT_EQ(next_state(HostState::kHigh, kMost, t), HostState::kHigh);
        }
      }
    }
  }
  // No memory to speak of: nothing is ever short, and nothing sticks.
  const Thresholds none = make_thresholds(ThresholdSet::kEsxi6, 0, 0, 0);
  EXPECT_EQ(next_state(HostState::kHigh, 0, none), HostState::kHigh);
  EXPECT_EQ(next_state(HostState::kLow, 0, none), HostState::kHigh);
}

struct Drawn {
  ThresholdSet set;
  Thresholds thresholds;
  uint64_t top;  // free bytes worth drawing from 0 to here
};

Drawn any_thresholds() {
  const auto set = *rc::gen::element(ThresholdSet::kEsxi6, ThresholdSet::kOsdi02);
  const auto memory = *rc::gen::inRange<uint64_t>(64 * kMb, uint64_t{1} << 42);
  const auto percent = *rc::gen::element<uint32_t>(0, 0, 1, 6, 20);
  const auto floor = *rc::gen::inRange<uint64_t>(0, memory / 64);
  const Thresholds t = make_thresholds(set, memory, percent, floor);
  return {set, t, t.enter_of(HostState::kHigh) * 2};
}

HostState any_state() { return static_cast<HostState>(*rc::gen::inRange<int>(0, kHostStates)); }

RC_GTEST_PROP(HostStateProperty, IsNeverHigherThanFreeMemoryAllows, ()) {
  const Drawn drawn = any_thresholds();
  const HostState now = any_state();
  const auto free = *rc::gen::inRange<uint64_t>(0, drawn.top);
  const HostState next = next_state(now, free, drawn.thresholds);
  // No deeper state is called for.
  for (int i = static_cast<int>(next) + 1; i < static_cast<int>(kHostStates); ++i) {
    RC_ASSERT(free >= drawn.thresholds.enter[static_cast<size_t>(i)]);
  }
  RC_ASSERT(drawn.set == ThresholdSet::kEsxi6 || next != HostState::kClear);
  // It deepens only for a threshold that was crossed, and rises one state at a time.
  if (next > now) RC_ASSERT(free < drawn.thresholds.enter_of(next));
  const int most = drawn.set == ThresholdSet::kEsxi6 ? 1 : 2;  // past clear
  RC_ASSERT(static_cast<int>(now) - static_cast<int>(next) <= most);
}

RC_GTEST_PROP(HostStateProperty, MoreFreeMemoryNeverMeansADeeperState, ()) {
  const Drawn drawn = any_thresholds();
  const HostState now = any_state();
  const auto free = *rc::gen::inRange<uint64_t>(0, drawn.top);
  const auto more = *rc::gen::inRange<uint64_t>(free, drawn.top + 1);
  RC_ASSERT(next_state(now, more, drawn.thresholds) <= next_state(now, free, drawn.thresholds));
}

RC_GTEST_PROP(HostStateProperty, DoesNotFlapWithinTheMargin, ()) {
  const Drawn drawn = any_thresholds();
  uint64_t margin = kMost;
  for (size_t i = 1; i < kHostStates; ++i) {
    margin = std::min(margin, drawn.thresholds.leave[i] - drawn.thresholds.enter[i]);
  }
  const auto base = *rc::gen::inRange<uint64_t>(0, drawn.top);
  HostState state = any_state();
  RC_PRE(drawn.set == ThresholdSet::kEsxi6 || state != HostState::kClear);  // it has none
  bool rose = false;
  bool fell = false;
  for (const uint32_t raw :
       *rc::gen::container<std::vector<uint32_t>>(40, rc::gen::arbitrary<uint32_t>())) {
    const HostState next = next_state(state, base + raw % margin, drawn.thresholds);
    rose |= next < state;
    fell |= next > state;
    state = next;
  }
  RC_ASSERT(!(rose && fell));
}

RC_GTEST_PROP(HostStateProperty, SettlesWithConstantFreeMemory, ()) {
  const Drawn drawn = any_thresholds();
  const auto free = *rc::gen::inRange<uint64_t>(0, drawn.top);
  HostState state = any_state();
  for (size_t i = 0; i < kHostStates; ++i) state = next_state(state, free, drawn.thresholds);
  RC_ASSERT(next_state(state, free, drawn.thresholds) == state);
}

}  // namespace
}  // namespace ballast::engine
