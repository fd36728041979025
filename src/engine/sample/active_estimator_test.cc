#include "engine/sample/active_estimator.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace ballast::engine {
namespace {

constexpr uint32_t kPages = 1 << 20;

SampleCounts counts(SampleCounts::Group fresh, SampleCounts::Group hot = {},
                    SampleCounts::Group cold = {}) {
  return {fresh, hot, cold};
}

TEST(ActiveEstimator, OnePeriodAloneIsAPlainSample) {
  ActiveEstimator estimator(kPages);
  EXPECT_EQ(estimator.periods(), 0u);
  estimator.close_period(counts({100, 50}));
  EXPECT_EQ(estimator.periods(), 1u);
  EXPECT_DOUBLE_EQ(estimator.last().fraction, 0.5);
  EXPECT_NEAR(estimator.last().error, 0.1, 0.001);
  EXPECT_DOUBLE_EQ(estimator.slow().fraction, 0.5);
  EXPECT_DOUBLE_EQ(estimator.fast().fraction, 0.5);
}

TEST(ActiveEstimator, ASampleOfAllPagesIsExact) {
  ActiveEstimator estimator(100);
  estimator.close_period(counts({100, 37}));
  EXPECT_DOUBLE_EQ(estimator.last().fraction, 0.37);
  EXPECT_DOUBLE_EQ(estimator.last().error, 0);
  estimator.close_period(counts({100, 90}, {20, 20}, {20, 15}));
  EXPECT_DOUBLE_EQ(estimator.last().fraction, 0.9);
  EXPECT_DOUBLE_EQ(estimator.last().error, 0);
}

TEST(ActiveEstimator, ASampleOfOneKindDoesNotClaimCertainty) {
  ActiveEstimator estimator(kPages);
  for (int i = 0; i < 50; ++i) {
    estimator.close_period(counts({100, 100}, {i > 0 ? 20u : 0u, i > 0 ? 20u : 0u}));
    EXPECT_DOUBLE_EQ(estimator.last().fraction, 1);
    EXPECT_GT(estimator.last().error, 0.003);
  }
}

TEST(ActiveEstimator, TheErrorShrinksWhileNothingChanges) {
  ActiveEstimator estimator(kPages);
  estimator.close_period(counts({100, 50}));
  double error = estimator.last().error;
  for (int i = 0; i < 6; ++i) {
    estimator.close_period(counts({120, 60}, {20, 20}, {60, 0}));
    EXPECT_LT(estimator.last().error, error);
    error = estimator.last().error;
  }
  EXPECT_LT(error, 0.04);
}

TEST(ActiveEstimator, AChangeIsMeasuredOnThePagesOfThePeriodBefore) {
  ActiveEstimator estimator(kPages);
  estimator.close_period(counts({200, 100}));
  for (int i = 0; i < 8; ++i) estimator.close_period(counts({200, 100}, {100, 100}, {100, 0}));
  // Half of the hot pages went cold. The fresh sample, by chance, shows nothing of it.
  estimator.close_period(counts({100, 50}, {1000, 500}, {1000, 0}));
  EXPECT_NEAR(estimator.last().fraction, 0.27, 0.03);
}

TEST(ActiveEstimator, WhoeverChangesAllTheTimeIsKnownByFreshSamplesOnly) {
  ActiveEstimator estimator(kPages);
  for (int i = 0; i < 10; ++i) estimator.close_period(counts({100, 50}, {20, 10}, {20, 10}));
  // No narrower than 140 pages make it.
  EXPECT_GT(estimator.last().error, 0.075);
  // An average over many periods does know more.
  EXPECT_LT(estimator.slow().error, 0.04);
}

TEST(ActiveEstimator, AveragesFollowWithTheirGains) {
  ActiveEstimator estimator(kPages);
  estimator.close_period(counts({100, 0}));
  // Without pages to compare the fresh sample is all.
  estimator.close_period(counts({100, 100}));
  EXPECT_DOUBLE_EQ(estimator.slow().fraction, 0.2);
  EXPECT_DOUBLE_EQ(estimator.fast().fraction, 0.8);
  const auto now = estimator.now(counts({100, 50}));
  EXPECT_DOUBLE_EQ(now.fraction, 0.8 * 0.2 + 0.5 * 0.8);
  EXPECT_DOUBLE_EQ(estimator.fast().fraction, 0.8) << "looking ahead changes nothing";
  EXPECT_EQ(estimator.periods(), 2u);
}

TEST(ActiveEstimator, TheFirstPlanAssumesThatEveryPageIsTouched) {
  const SamplePlan plan = ActiveEstimator(kPages).plan(100, 1, 0, 0);
  EXPECT_EQ(plan.fresh, 100u);
  EXPECT_EQ(plan.hot + plan.cold, 0u);
}

TEST(ActiveEstimator, MorePagesAreWatchedWhereLessIsTouched) {
  uint32_t before = ~0u;
  for (const uint32_t touched : {0u, 10u, 30u, 60u, 100u}) {
    ActiveEstimator estimator(kPages);
    estimator.close_period(counts({100, touched}));
    const SamplePlan plan = estimator.plan(100, 1, touched, 100 - touched);
    EXPECT_LE(plan.fresh, before);
    before = plan.fresh;
  }
  EXPECT_LT(before, 100u);
}

TEST(ActiveEstimator, PagesWithoutAFrameCostNothing) {
  ActiveEstimator estimator(kPages);
  estimator.close_period(counts({100, 60}));
  EXPECT_GT(estimator.plan(100, 0.1, 60, 40).fresh, 2 * estimator.plan(100, 1, 60, 40).fresh);
}

RC_GTEST_PROP(ActiveEstimatorProperty, StaysWithinItsBounds, ()) {
  const auto pages = *rc::gen::inRange<uint32_t>(1, 100000);
  const auto budget = *rc::gen::inRange<uint32_t>(10, 10001);
  ActiveEstimator estimator(pages);
  const auto part_of = [](uint32_t whole) { return *rc::gen::inRange<uint32_t>(0, whole + 1); };
  uint32_t hot = 0;
  uint32_t cold = 0;
  for (int period = 0; period < 6; ++period) {
    const double resident = *rc::gen::inRange(0, 101) / 100.0;
    const SamplePlan plan = estimator.plan(budget, resident, hot, cold);
    RC_ASSERT(plan.fresh >= 1 && plan.fresh <= pages);
    RC_ASSERT(plan.hot <= hot && plan.cold <= cold);
    RC_ASSERT(plan.fresh + plan.hot + plan.cold <= ActiveEstimator::kPagesMax);
    RC_ASSERT(plan.fresh + plan.hot + plan.cold <= 7.7 * budget);
    const SampleCounts seen =
        counts({plan.fresh, part_of(plan.fresh)}, {plan.hot, part_of(plan.hot)},
               {plan.cold, part_of(plan.cold)});
    estimator.close_period(seen);
    for (const auto& reading : {estimator.last(), estimator.slow(), estimator.fast()}) {
      RC_ASSERT(reading.fraction >= -1e-9 && reading.fraction <= 1 + 1e-9);
      RC_ASSERT(reading.error >= 0 && reading.error <= 2);
    }
    hot = seen.fresh.touched;
    cold = seen.fresh.pages - seen.fresh.touched;
  }
}

}  // namespace
}  // namespace ballast::engine
