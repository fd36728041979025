#include "engine/sample/active_sampler.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "engine/sample/sampled_guest.h"

namespace ballast::engine {
namespace {

constexpr uint32_t kPages = 4096;
constexpr Nanoseconds kPeriod = SampledGuest::kPeriodSeconds * kSecond;

double part_of(const TestVm& vm, uint64_t bytes) {
  return static_cast<double>(bytes) / static_cast<double>(vm.spec.configured_bytes);
}

TEST(ActiveSampler, WithoutAnEstimateAllThatIsResidentCountsAsActive) {
  TestVm vm({.pages = 256});
  for (uint32_t page = 0; page < 100; ++page) vm.stamp(page, Kind::kRandom);
  const VmReport report = vm.pager->report();
  EXPECT_EQ(report.samples, 0u);
  EXPECT_EQ(report.active_bytes, report.resident_bytes);
  EXPECT_GE(report.active_bytes, pages_to_bytes(100));
}

TEST(ActiveSampler, OffItNeverWakesTheWorkerAndCostsNothing) {
  TestVm vm({.pages = 256, .options = {.sample_period_s = 0}});
  for (int i = 0; i < 100; ++i) {
    vm.stamp(static_cast<uint32_t>(i), Kind::kRandom);
    vm.world.advance(10 * kSecond);
    vm.pump();
  }
  EXPECT_EQ(vm.pager->next_due(), ActiveSampler::kNever);
  EXPECT_EQ(vm.pager->report().samples, 0u);
  EXPECT_EQ(vm.pager->report().sample_faults, 0u);
}

TEST(ActiveSampler, AMachineThatCannotSampleLeavesItOff) {
  TestVm vm({.pages = 256, .memory = {.can_sample = false}});
  vm.stamp(1, Kind::kRandom);
  vm.world.advance(1000 * kSecond);
  vm.pump();
  EXPECT_EQ(vm.pager->next_due(), ActiveSampler::kNever);
  EXPECT_EQ(vm.pager->report().samples, 0u);
}

TEST(ActiveSampler, AWorkerWakesSixteenTimesAPeriodAndNotMore) {
  SampledGuest guest({.pages = kPages});
  int looks = 0;
  const uint64_t before = guest.vm.pager->report().samples;
  while (guest.vm.pager->report().samples == before) {
    const Nanoseconds due = guest.vm.pager->next_due();
    const Nanoseconds now = guest.vm.control.run_time();
    ASSERT_GT(due, now);
    guest.vm.world.advance(due - now);
    guest.vm.pager->turn();
    ++looks;
    ASSERT_LE(looks, 20);
  }
  EXPECT_NEAR(looks, 16, 1);
}

TEST(ActiveSampler, PeriodsAreOfTheVmsOwnRunTime) {
  SampledGuest guest({.pages = kPages});
  guest.run(0);
  guest.vm.control.freeze("");
  guest.vm.world.advance(100 * kPeriod);
  guest.vm.pump();
  EXPECT_EQ(guest.vm.pager->report().samples, 1u);
  guest.vm.control.resume();
  guest.run(0);  // checks that its own time makes one period
  EXPECT_EQ(guest.vm.pager->report().samples, 2u);
}

TEST(ActiveSampler, RisesWithinAPeriodAndFallsOverSeveral) {
  SampledGuest guest({.pages = kPages, .seed = 3});
  for (int i = 0; i < 5; ++i) guest.run(guest.part(0.1));
  EXPECT_NEAR(part_of(guest.vm, guest.vm.pager->report().active_bytes), 0.1, 0.03);
  // Half a period of touching nearly all.
  for (uint32_t slice = 0; slice < SampledGuest::kSlices / 2; ++slice) {
    guest.vm.world.advance(kPeriod / SampledGuest::kSlices);
    for (uint32_t i = slice; i < guest.part(0.9); i += SampledGuest::kSlices / 2) {
      guest.touch(guest.order()[i]);
    }
    guest.vm.pump();
  }
  VmReport report = guest.vm.pager->report();
  EXPECT_EQ(report.samples, 5u);
  EXPECT_GT(part_of(guest.vm, report.active_bytes), 0.65);
  EXPECT_EQ(report.active_bytes, report.active_now_bytes);
  EXPECT_LT(part_of(guest.vm, report.active_fast_bytes), 0.15);
  // More busy periods, until the slow average is there as well; then it goes quiet.
  for (int i = 0; i < 12; ++i) {
    guest.vm.world.advance(kPeriod / 2 + kSecond);
    for (uint32_t k = 0; k < guest.part(0.9); ++k) guest.touch(guest.order()[k]);
    guest.vm.pump();
    guest.vm.world.advance(kPeriod / 2);
    guest.vm.pump();
  }
  double before = part_of(guest.vm, guest.vm.pager->report().active_bytes);
  EXPECT_GT(before, 0.7);
  for (int i = 0; i < 8; ++i) {
    guest.vm.world.advance(kPeriod + kSecond);
    guest.vm.pump();
    report = guest.vm.pager->report();
    const double active = part_of(guest.vm, report.active_bytes);
    EXPECT_LE(active, before);
    EXPECT_GT(active, before * 0.7) << "no faster than the slow average";
    EXPECT_GE(report.active_bytes, report.active_slow_bytes);
    before = active;
  }
  EXPECT_LT(before, 0.3);
  EXPECT_LT(part_of(guest.vm, report.active_fast_bytes), 0.02);
}

TEST(ActiveSampler, TheFloorIsAPartOfTheVm) {
  SampledGuest guest({.pages = kPages, .options = {.sample_active_min_percent = 25}});
  for (int i = 0; i < 3; ++i) guest.run(0);
  const VmReport report = guest.vm.pager->report();
  EXPECT_EQ(report.active_bytes, guest.vm.spec.configured_bytes / 4);
  EXPECT_LT(report.active_fast_bytes, guest.vm.spec.configured_bytes / 20);
}

TEST(ActiveSampler, AnotherPeriodLengthStartsOver) {
  SampledGuest guest({.pages = kPages});
  guest.run(guest.part(0.5));
  Options options = guest.vm.setup.options;
  options.sample_active_min_percent = 90;
  guest.vm.pager->set_options(options);
  EXPECT_EQ(guest.vm.pager->active().periods, 1u);
  EXPECT_GE(part_of(guest.vm, guest.vm.pager->active().active), 0.899);
  options.sample_period_s = 30;
  guest.vm.pager->set_options(options);
  EXPECT_EQ(guest.vm.pager->active().periods, 0u);
  guest.vm.pump();
  guest.vm.world.advance(31 * kSecond);
  guest.vm.pump();
  EXPECT_EQ(guest.vm.pager->active().periods, 1u);
}

TEST(ActiveSampler, WithoutSamplesNothingIsClaimed) {
  SampledGuest guest({.pages = kPages});
  for (int i = 0; i < 3; ++i) guest.run(guest.part(0.1));
  guest.vm.memory.refuse_samples(true);
  guest.run(guest.part(0.1));  // its samples were taken before
  const auto known = guest.vm.pager->active();
  for (int i = 0; i < 50; ++i) {
    guest.vm.world.advance(kPeriod / 8);
    guest.vm.pump();
  }
  EXPECT_EQ(guest.vm.pager->active().periods, known.periods);
  EXPECT_EQ(guest.vm.pager->active().active, std::max(known.slow, known.fast));
  guest.vm.memory.refuse_samples(false);
  guest.vm.world.advance(kPeriod / 8);
  guest.vm.pump();
  const auto period = guest.run(guest.part(0.1));
  EXPECT_NEAR(period.estimate, 0.1, 0.1);
  EXPECT_EQ(guest.vm.pager->active().periods, known.periods + 1);
}

TEST(ActiveSampler, AVmThatDiesIsLeftAlone) {
  SampledGuest guest({.pages = kPages});
  guest.run(guest.part(0.5));
  guest.vm.memory.die();
  for (int i = 0; i < 40; ++i) {
    guest.vm.world.advance(kPeriod / 16);
    guest.vm.pager->turn();
  }
  EXPECT_TRUE(guest.vm.pager->gone());
}

TEST(ActiveSampler, TheNextDaemonBeginsAnew) {
  SampledGuest guest({.pages = kPages});
  for (int i = 0; i < 4; ++i) guest.run(guest.part(0.3));
  guest.vm.kill();
  ASSERT_EQ(guest.vm.take_over(), "");
  EXPECT_EQ(guest.vm.pager->report().samples, 0u);
  EXPECT_EQ(guest.vm.pager->report().active_bytes, guest.vm.pager->report().resident_bytes);
  guest.vm.pump();
  for (int i = 0; i < 6; ++i) {
    const auto period = guest.run(guest.part(0.3));
    EXPECT_NEAR(period.estimate, 0.3, 1.5 * period.error);
  }
  EXPECT_LE(guest.vm.pager->active().period_error, guest.vm.spec.configured_bytes / 20);
}

// A sampler alone, over a VM whose pages all have frames.
struct BareSampler {
  static constexpr PageRun kAll{PageIndex(0), kPages};

  explicit BareSampler(uint64_t seed)
      : outer({.pages = kPages, .seed = seed}),
        memory(outer.world, 1, {.page_count = kPages}),
        vm(outer.spec,
           {memory, outer.swap, outer.store, outer.control, outer.world, ledger, {}, seed},
           Tables::format(outer.store.tables(), kPages, kPages, 1)),
        sampler(vm) {
    vm.counts[0] = kPages;
    EXPECT_EQ(vm.charge_frames(kPages), kPages);
    EXPECT_EQ(memory.install_zero(kAll).installed, kPages);
    for (PageIndex page(0); page < kAll.end(); ++page)
      vm.set(page, PageEntry::plain(PageState::kResident));
    sampler.turn(outer.control.run_time());
  }
  ~BareSampler() { vm.uncharge_frames(kPages); }

  void advance(Nanoseconds span) {
    outer.world.advance(span);
    sampler.turn(outer.control.run_time());
  }
  // Each page below `hot` once; `after_slice` before the sampler looks.
  void run_period(uint32_t hot, const std::function<void()>& after_slice) {
    for (uint32_t slice = 0; slice < SampledGuest::kSlices; ++slice) {
      outer.world.advance(kPeriod / SampledGuest::kSlices);
      for (uint32_t page = slice; page < hot; page += SampledGuest::kSlices)
        EXPECT_NE(memory.touch(0, PageIndex(page), false), nullptr);
      after_slice();
      sampler.turn(outer.control.run_time());
    }
  }
  double estimate() const { return part_of(outer, sampler.estimate().period); }

  TestVm outer;
  Ledger ledger{uint64_t{64} << 20};
  machine::sim::SimGuestMemory memory;
  Vm vm;
  ActiveSampler sampler;
};

TEST(ActiveSampler, OtherSamplesOfTheSamePagesHideNothing) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    BareSampler bare(seed);
    for (int i = 0; i < 5; ++i) {
      bare.run_period(kPages / 2, [&] {
        bare.sampler.before_zap(BareSampler::kAll);
        EXPECT_TRUE(bare.memory.start_sample({&BareSampler::kAll, 1}));
      });
      EXPECT_EQ(bare.sampler.estimate().periods, static_cast<uint64_t>(i) + 1);
      EXPECT_NEAR(bare.estimate(), 0.5, 0.1);
    }
  }
}

TEST(ActiveSampler, ASampleThatWasJustAskedForTellsNothingYet) {
  BareSampler bare(1);
  bare.sampler.before_zap(BareSampler::kAll);
  bare.run_period(0, [] {});
  for (int i = 0; i < 3; ++i) {
    bare.sampler.before_zap(BareSampler::kAll);  // right after a new period began
    bare.run_period(0, [] {});
    EXPECT_EQ(bare.estimate(), 0);
  }
  EXPECT_EQ(bare.sampler.estimate().faults_cost, 0u);
}

TEST(ActiveSampler, AGuestThatWakesUpPaysForWhatWasWatchedOnce) {
  BareSampler bare(1);
  bare.run_period(0, [] {});
  const uint64_t before = bare.sampler.estimate().faults_cost;
  // All of the VM, again and again, in a period that expected nothing of the kind.
  for (int i = 0; i < 14; ++i) {
    for (uint32_t page = 0; page < kPages; ++page)
      EXPECT_NE(bare.memory.touch(0, PageIndex(page), false), nullptr);
    bare.advance(kPeriod / 16);
  }
  const uint64_t cost = bare.sampler.estimate().faults_cost - before;
  EXPECT_GT(cost, 400u);
  EXPECT_LE(cost, 770u);
}

TEST(ActiveSampler, ATouchedPageIsLeftAloneForTheRestOfThePeriod) {
  BareSampler bare(1);
  bare.run_period(0, [] {});
  constexpr PageRun kUsed{PageIndex(0), 128};
  bare.outer.world.advance(kMillisecond);  // the samples have started
  for (int i = 0; i < 3; ++i) {
    for (PageIndex page = kUsed.first; page < kUsed.end(); ++page)
      EXPECT_NE(bare.memory.touch(0, page, false), nullptr);
    bare.advance(kPeriod / 16);
    bare.outer.world.advance(kMillisecond);
    std::array<uint64_t, 2> touched{};
    ASSERT_EQ(bare.memory.touched(kUsed, touched), machine::MemoryResult::kOk);
    for (const uint64_t bits : touched) EXPECT_EQ(bits, ~uint64_t{0}) << "look " << i;
  }
  EXPECT_GT(bare.sampler.estimate().faults_cost, 0u);
}

// What happens to memory meanwhile must not bias the estimate: mean error and coverage over guests.
struct Sum {
  uint32_t periods = 0;
  uint32_t covered = 0;
  double bias = 0;
  uint64_t faults_most = 0;
  void add(const SampledGuest::Period& period) {
    ++periods;
    covered += std::abs(period.estimate - period.truth) <= period.error + 1e-9 ? 1 : 0;
    bias += period.estimate - period.truth;
    faults_most = std::max(faults_most, period.faults);
  }
  void expect_fair(double bias_allowed, uint64_t faults_allowed = 125) const {
    EXPECT_NEAR(bias / periods, 0, bias_allowed);
    EXPECT_GE(covered, periods * 89 / 100);
    EXPECT_LE(faults_most, faults_allowed);
  }
};

constexpr uint64_t kSeeds = 25;

TEST(ActiveSampler, PagesTouchedForTheFirstTimeCountWithoutCost) {
  Sum sum;
  uint64_t faults = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SampledGuest guest({.pages = kPages, .seed = seed});
    for (uint32_t page = 0; page < kPages; ++page)
      guest.vm.guest_discards(page, page + 1 == kPages);
    for (int i = 0; i < 4; ++i) {
      // Each period another fifth, here and there: neighbours come in along with each touch.
      std::vector<std::vector<uint32_t>> slices(SampledGuest::kSlices);
      for (uint32_t k = 0; k < kPages / 5; ++k) {
        slices[guest.random().below(SampledGuest::kSlices)].push_back(guest.order()[k]);
      }
      guest.shuffle(0, kPages);
      const auto period = guest.run(slices);
      sum.add(period);
      if (i == 0) faults += period.faults;
    }
  }
  // Memory that fills up is a change: what was free to watch costs faults once it is there.
  sum.expect_fair(0.01, 160);
  // In the first period of each nothing was there to be sampled, but neighbours came in.
  EXPECT_LE(faults / kSeeds, 15u);
}

TEST(ActiveSampler, AWalkThroughMemoryThatComesInAheadCounts) {
  Sum first_touches;
  Sum swap_ins;
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    SampledGuest guest({.pages = kPages, .seed = seed});
    const auto walk = [&](uint32_t from) {
      std::vector<std::vector<uint32_t>> slices(SampledGuest::kSlices);
      for (uint32_t i = 0; i < kPages / 2; ++i)
        slices[i * SampledGuest::kSlices / (kPages / 2)].push_back((from + i) % kPages);
      return guest.run(slices);
    };
    for (uint32_t page = 0; page < kPages; ++page)
      guest.vm.guest_discards(page, page + 1 == kPages);
    for (uint32_t i = 0; i < 2; ++i) first_touches.add(walk(i * kPages / 2));
    for (uint32_t page = 0; page < kPages; ++page) {
      guest.vm.stamp(page, page % 2048 < 1024 ? Kind::kRandom : Kind::kZips);
    }
    guest.vm.reclaim_all();
    ASSERT_GT(guest.vm.pager->report().swapped_bytes, guest.vm.spec.configured_bytes / 4);
    guest.vm.setup.options.sample_period_s = 0;
    guest.vm.pager->set_options(guest.vm.setup.options);
    guest.on();
    for (uint32_t i = 0; i < 2; ++i) swap_ins.add(walk(i * kPages / 2));
  }
  EXPECT_LE(std::abs(first_touches.bias / first_touches.periods), 0.03);
  EXPECT_GE(first_touches.covered, first_touches.periods * 85 / 100);
  EXPECT_LE(std::abs(swap_ins.bias / swap_ins.periods), 0.03);
  EXPECT_GE(swap_ins.covered, swap_ins.periods * 85 / 100);
}

TEST(ActiveSampler, EvictionsAndFaultsMeanwhileLeaveItUnbiased) {
  Sum sum;
  uint64_t came_back = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SampledGuest guest(
        {.pages = kPages, .options = {.victims = VictimChoice::kRandom}, .seed = seed});
    guest.in_slice = [&] { guest.vm.pager->reclaim(kPages / 64); };
    for (int i = 0; i < 6; ++i) sum.add(guest.run(guest.part(0.4)));
    came_back += guest.vm.pager->report().unzips + guest.vm.pager->report().swap_ins;
  }
  EXPECT_GT(came_back, kSeeds * kPages / 4);
  sum.expect_fair(0.01);
}

TEST(ActiveSampler, SecondChanceReclaimLeavesItUnbiased) {
  Sum sum;
  uint64_t came_back = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SampledGuest guest(
        {.pages = kPages, .options = {.victims = VictimChoice::kSecondChance}, .seed = seed});
    // The hands go around the VM several times a period: what they zap was touched just before.
    guest.in_slice = [&] {
      guest.vm.pager->reclaim(kPages / 64);
      for (int turn = 0; turn < 3; ++turn) guest.vm.pump();
    };
    for (int i = 0; i < 6; ++i) sum.add(guest.run(guest.part(0.4)));
    came_back += guest.vm.pager->report().unzips + guest.vm.pager->report().swap_ins;
    guest.vm.pager->audit();
  }
  EXPECT_GT(came_back, kSeeds * kPages / 4);
  sum.expect_fair(0.01);
}

TEST(ActiveSampler, PagesThatTheGuestGivesUpMeanwhileLeaveItUnbiased) {
  Sum sum;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SampledGuest guest({.pages = kPages, .seed = seed});
    guest.in_slice = [&] {
      // A balloon takes pages that the guest does not use.
      for (uint32_t i = 0; i < 20; ++i) {
        const uint32_t unused = guest.part(0.6) + guest.random().below(guest.part(0.4));
        guest.vm.guest_discards(guest.order()[unused]);
      }
    };
    for (int i = 0; i < 6; ++i) sum.add(guest.run(guest.part(0.6)));
  }
  sum.expect_fair(0.01);
}

}  // namespace
}  // namespace ballast::engine
