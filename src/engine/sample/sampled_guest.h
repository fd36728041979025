// SampledGuest: a VM whose guest touches exactly the pages that a test says, period by period, and
// what its sampler made of it. For tests.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

#include "engine/engine_test_vm.h"

namespace ballast::engine {

// A set of pages, as positions in a permutation of the VM's pages: sets are scattered at random,
// which is the worst case for sampling, and nested sets share their members.
class SampledGuest {
 public:
  struct Period {
    double truth = 0;  // fractions of the VM
    double estimate = 0;
    double error = 0;
    double active = 0;  // what is published
    double active_error = 0;
    uint64_t faults = 0;
  };

  explicit SampledGuest(TestSetup setup)
      : vm(off(setup)), random_(setup.seed), order_(setup.pages) {
    std::iota(order_.begin(), order_.end(), 0u);
    shuffle(0, setup.pages);
    // Contents, so that what is evicted comes back by its own faults.
    for (uint32_t page = 0; page < setup.pages; ++page) {
      std::byte* frame = vm.access(PageIndex(page), true);
      if (frame != nullptr) TestVm::fill(frame, page, Kind::kZips, 1);
    }
    on();
  }

  // The sampler starts over from here.
  void on() {
    vm.setup.options.sample_period_s = kPeriodSeconds;
    vm.pager->set_options(vm.setup.options);
    vm.pump();
  }

  uint32_t pages() const { return vm.setup.pages; }
  uint32_t part(double fraction) const {
    return static_cast<uint32_t>(std::lround(fraction * pages()));
  }
  // Positions [first, end) change their members among themselves.
  void shuffle(uint32_t first, uint32_t end) {
    for (uint32_t i = first; i + 1 < end; ++i) {
      std::swap(order_[i], order_[i + random_.below(end - i)]);
    }
  }
  // `count` members of the first `set` positions trade places with others.
  void exchange(uint32_t set, uint32_t count) {
    if (set == pages()) return;
    shuffle(0, set);
    for (uint32_t i = 0; i < count; ++i) {
      std::swap(order_[i], order_[set + random_.below(pages() - set)]);
    }
  }

  // One period in which the pages at the first `set` positions are touched once each, at any time.
  Period run(uint32_t set) {
    std::vector<std::vector<uint32_t>> slices(kSlices);
    for (uint32_t i = 0; i < set; ++i) slices[random_.below(kSlices)].push_back(order_[i]);
    return run(slices);
  }
  // One period of so many accesses to any pages.
  Period run_uniform(uint32_t accesses) {
    std::vector<std::vector<uint32_t>> slices(kSlices);
    for (uint32_t i = 0; i < accesses; ++i) {
      slices[random_.below(kSlices)].push_back(random_.below(pages()));
    }
    return run(slices);
  }
  Period run(const std::vector<std::vector<uint32_t>>& slices) {
    const ActiveSampler::Estimate before = vm.pager->active();
    std::vector<bool> touched(pages());
    constexpr Nanoseconds kSlice = kPeriodSeconds * kSecond / kSlices;
    Nanoseconds start = vm.control.run_time();
    for (const auto& slice : slices) {
      EXPECT_EQ(vm.pager->active().periods, before.periods);
      Nanoseconds at = start;
      for (const uint32_t page : slice) {
        at += kSlice / 4 * 3 / slice.size();
        advance_to(at);
        touch(page);
        touched[page] = true;
      }
      if (in_slice) in_slice();
      start += kSlice;
      advance_to(start);
      vm.pump();
    }
    const ActiveSampler::Estimate after = vm.pager->active();
    EXPECT_EQ(after.periods, before.periods + 1);
    const double all = static_cast<double>(vm.spec.configured_bytes);
    Period period;
    period.truth = static_cast<double>(std::count(touched.begin(), touched.end(), true)) / pages();
    period.estimate = static_cast<double>(after.period) / all;
    period.error = static_cast<double>(after.period_error) / all;
    period.active = static_cast<double>(after.active) / all;
    period.active_error = static_cast<double>(after.error) / all;
    period.faults = after.faults_cost - before.faults_cost;
    return period;
  }

  void touch(uint32_t page) { ASSERT_NE(vm.access(PageIndex(page), true), nullptr); }
  Random& random() { return random_; }
  const std::vector<uint32_t>& order() const { return order_; }

  static constexpr uint32_t kPeriodSeconds = 60;
  static constexpr uint32_t kSlices = 32;
  TestVm vm;
  std::function<void()> in_slice;  // what else happens

 private:
  // What the worker did meanwhile took time as well.
  void advance_to(Nanoseconds run_time) {
    const Nanoseconds now = vm.control.run_time();
    if (run_time > now) vm.world.advance(run_time - now);
  }
  static TestSetup off(TestSetup setup) {
    setup.options.sample_period_s = 0;
    return setup;
  }

  Random random_;
  std::vector<uint32_t> order_;
};

}  // namespace ballast::engine
