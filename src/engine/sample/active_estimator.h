// ActiveEstimator: from what samples of a VM's pages showed to how much of the VM is active, and
// how sure that is. Arithmetic only: no clock, no pages. docs/adr/0012.
//
// Each period watches three groups of pages:
//   fresh  chosen anew from all pages of the VM: tells the level, with the error of any sample
//   hot    fresh ones of the period before that were touched then } tell what changed since, with
//   cold   fresh ones of the period before that were not          } almost no error if little did
// The last estimate x, carried over by the change, is a second estimate of the present:
//   carried = x · P(touched again | hot) + (1 − x) · P(touched | cold)
// and the result is the mean of both, weighted by their variances. Nothing is assumed about the
// guest: pages are compared with themselves one period before. If it keeps its habits the error
// shrinks period by period, if it does not the fresh sample decides.
//
// All numbers are fractions of the VM's configured pages. Variances are kept above zero where
// nothing was seen to change: rare changes exist, and an interval that claims certainty is wrong.
#pragma once

#include <cstdint>

namespace ballast::engine {

struct SampleCounts {
  struct Group {
    uint32_t pages = 0;
    uint32_t touched = 0;
  };
  Group fresh;
  Group hot;
  Group cold;
};

// How many pages of each group the next period watches.
struct SamplePlan {
  uint32_t fresh = 0;
  uint32_t hot = 0;
  uint32_t cold = 0;
};

class ActiveEstimator {
 public:
  struct Reading {
    double fraction = 0;
    double error = 0;  // ± at 95 % confidence
  };

  // The most pages that a plan holds, whatever the budget.
  static constexpr uint32_t kPagesMax = 2048;

  explicit ActiveEstimator(uint32_t pages) : pages_(pages) {}

  // As many pages as may be watched while the touched ones, a fault each, stay within `budget` in
  // all but a few of a thousand periods, provided the VM goes on as before. `resident`: the
  // fraction of the VM that has frames; touches of the rest cost nothing. `hot`, `cold`: fresh
  // pages of the period that just ended, touched and not.
  SamplePlan plan(uint32_t budget, double resident, uint32_t hot, uint32_t cold) const;

  void close_period(const SampleCounts& counts) { state_ = after(counts); }

  uint32_t periods() const { return state_.periods; }
  Reading last() const { return reading(state_.x, state_.variance); }  // the last closed period
  // Moving averages over the periods: gain 0.2 and 0.8.
  Reading slow() const { return state_.slow.reading(); }
  Reading fast() const { return state_.fast.reading(); }
  // The fast average with the period under way, as far as it was seen, in it already.
  Reading now(const SampleCounts& so_far) const { return after(so_far).fast.reading(); }

 private:
  // A moving average of estimates that are correlated from one period to the next.
  struct Average {
    double value = 0;
    double variance = 0;
    double covariance = 0;  // with the last estimate
    void add(double estimate, double estimate_variance, double carried, double gain);
    Reading reading() const { return ActiveEstimator::reading(value, variance); }
  };
  // How often pages of a group changed sides, older periods counting less.
  struct Churn {
    double changed = 0;
    double watched = 0;
    void add(uint32_t changed_now, uint32_t watched_now);
    double rate() const;      // never 0, never 1
    double at_least() const;  // a rate that is not overrated when little was watched
  };
  struct State {
    uint32_t periods = 0;
    double x = 0;
    double variance = 0;
    Churn left;     // hot pages that were not touched again
    Churn entered;  // cold pages that were touched
    Average slow;
    Average fast;
  };

  static Reading reading(double value, double variance);
  State after(const SampleCounts& counts) const;

  uint32_t pages_;
  State state_;
};

}  // namespace ballast::engine
