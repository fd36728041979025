#include "engine/sample/active_estimator.h"

#include <algorithm>
#include <cmath>

namespace ballast::engine {

namespace {

constexpr double kSlowGain = 0.2;
constexpr double kFastGain = 0.8;
// Half-width of 95 % in standard deviations: 1.96, and a little for variances that are themselves
// estimates.
constexpr double kDeviations = 2.0;
// Changes seen in the last periods count 1, 3/4, 9/16, …; before anything was seen, 1/8 of a
// change in 1/4 of a page. More would keep the error of quiet VMs wide for many periods.
constexpr double kChurnMemory = 0.75;
constexpr double kChurnPrior = 0.125;
// A touched and an untouched page each, added to a sample before its variance is taken: without
// them a sample that is all of one kind would claim to be exact.
constexpr double kExtraOfEach = 2;
// Parts of the budget. One fault in five looks for pages that went cold; cold pages are free until
// they are touched, then they may take as much. Multiples bound what a sudden change can cost.
constexpr double kHotShare = 0.2;
constexpr double kColdFaultShare = 0.2;
constexpr double kColdPagesPerFault = 2.5;
constexpr double kFreshPagesPerFault = 5;
constexpr uint32_t kFreshMax = ActiveEstimator::kPagesMax / 2;
constexpr uint32_t kHotMax = ActiveEstimator::kPagesMax / 4;
constexpr uint32_t kColdMax = ActiveEstimator::kPagesMax / 4;
// Standard deviations of the number of faults that are kept free of the budget.
constexpr double kFaultMargin = 2.5;

double portion(const SampleCounts::Group& group) {
  return group.pages == 0 ? 0.5 : double{1} * group.touched / group.pages;
}

// Of the portion of touched pages in a group, whose pages change sides at `rate`.
double change_variance(const SampleCounts::Group& group, double rate) {
  return group.pages == 0 ? 0.25 : rate * (1 - rate) / group.pages;
}

}  // namespace

ActiveEstimator::Reading ActiveEstimator::reading(double value, double variance) {
  return {value, kDeviations * std::sqrt(variance)};
}

void ActiveEstimator::Churn::add(uint32_t changed_now, uint32_t watched_now) {
  changed = changed * kChurnMemory + changed_now;
  watched = watched * kChurnMemory + watched_now;
}

double ActiveEstimator::Churn::rate() const {
  return (changed + kChurnPrior) / (watched + 2 * kChurnPrior);
}

double ActiveEstimator::Churn::at_least() const { return changed / (watched + 1); }

// `carried`: the factor with which the estimate before entered this one.
void ActiveEstimator::Average::add(double estimate, double estimate_variance, double carried,
                                   double gain) {
  const double with_estimate = carried * covariance;  // of the average so far
  value += gain * (estimate - value);
  variance = gain * gain * estimate_variance + (1 - gain) * (1 - gain) * variance +
             2 * gain * (1 - gain) * with_estimate;
  covariance = gain * estimate_variance + (1 - gain) * with_estimate;
}

ActiveEstimator::State ActiveEstimator::after(const SampleCounts& counts) const {
  State next = state_;
  if (counts.fresh.pages == 0) return next;
  ++next.periods;
  const double n = counts.fresh.pages;
  const double fresh = portion(counts.fresh);
  const double unseen = 1 - n / pages_;  // a sample of all pages has no error
  const bool comparable = counts.hot.pages + counts.cold.pages > 0;
  if (!comparable) {
    const double p = (n * fresh + kExtraOfEach) / (n + 2 * kExtraOfEach);
    next.x = fresh;
    next.variance = unseen * p * (1 - p) / n;
    next.left = next.entered = {};
  }
  double carried_weight = 0;
  if (comparable) {
    next.left.add(counts.hot.pages - counts.hot.touched, counts.hot.pages);
    next.entered.add(counts.cold.touched, counts.cold.pages);
    const double stay = portion(counts.hot);
    const double enter = portion(counts.cold);
    const double x = state_.x;
    const double carried = x * stay + (1 - x) * enter;
    const double carried_variance =
        (stay - enter) * (stay - enter) * state_.variance +
        x * x * change_variance(counts.hot, next.left.rate()) +
        (1 - x) * (1 - x) * change_variance(counts.cold, next.entered.rate());
    // Both estimates together say how much a fresh sample scatters: by itself a sample that is off
    // to an extreme would also look more certain than it is.
    const double p = (n * (fresh + carried) / 2 + kExtraOfEach) / (n + 2 * kExtraOfEach);
    const double fresh_variance = unseen * p * (1 - p) / n;
    const double weight = carried_variance / (carried_variance + fresh_variance);
    next.x = carried + weight * (fresh - carried);
    next.variance = weight * fresh_variance;
    carried_weight = (1 - weight) * (stay - enter);
  }
  if (state_.periods == 0) {
    next.slow = next.fast = {next.x, next.variance, next.variance};
  } else {
    next.slow.add(next.x, next.variance, carried_weight, kSlowGain);
    next.fast.add(next.x, next.variance, carried_weight, kFastGain);
  }
  return next;
}

SamplePlan ActiveEstimator::plan(uint32_t budget, double resident, uint32_t hot,
                                 uint32_t cold) const {
  const double faults = budget;
  const auto limit = [this](double pages) {
    return static_cast<uint32_t>(std::clamp(pages, 1.0, std::min<double>(pages_, kFreshMax)));
  };
  // Nothing is known: every page may be touched.
  if (state_.periods == 0) return {limit(faults), 0, 0};
  const double enter = state_.entered.rate();
  SamplePlan plan;
  plan.hot = std::min({hot, static_cast<uint32_t>(faults * kHotShare), kHotMax});
  plan.cold = static_cast<uint32_t>(std::min({double{1} * cold, faults * kColdPagesPerFault,
                                              faults * kColdFaultShare / enter, double{kColdMax}}));
  const double left = faults - plan.hot * (1 - state_.left.at_least()) - plan.cold * enter;
  const double other_variance = plan.hot * state_.left.rate() + plan.cold * enter * (1 - enter);
  // A page costs a fault if it is touched and has a frame.
  const double cost = std::max(std::min(state_.x, resident), 0.5 / faults);
  double fresh = faults * kFreshPagesPerFault;
  for (int round = 0; round < 4; ++round) {  // the margin depends on the size, weakly
    const double variance =
        fresh * cost * (1 - cost) + fresh * fresh * state_.variance + other_variance;
    const double affordable = (left - kFaultMargin * std::sqrt(variance)) / cost;
    fresh = std::clamp(affordable, faults / 4, faults * kFreshPagesPerFault);
  }
  plan.fresh = limit(fresh);
  return plan;
}

}  // namespace ballast::engine
