// A small engine that keeps to the contract of sharing, guests whose every word is known, daemons
// that die, and a VM's side with all its misbehaviour: in no order is a byte lost.
#include <gtest/gtest.h>

#include <cstring>
#include <optional>

#include "machine/sim/sim_guest_memory.h"

namespace ballast::machine::sim {
namespace {

constexpr uint32_t kPages = 64;

void fill(std::span<std::byte> page, uint64_t value) {
  for (size_t at = 0; at < kPageBytes; at += 8) std::memcpy(&page[at], &value, 8);
}
uint64_t value_of(const std::byte* page) {
  uint64_t value = 0;
  std::memcpy(&value, page, 8);
  return std::memcmp(page, page + 8, kPageBytes - 8) == 0 ? value : ~uint64_t{0};
}

class Walk {
 public:
  explicit Walk(uint64_t seed) : world_(seed), random_(seed * 7 + 1) {
    options_.page_count = kPages;
    options_.async_faults = random_.chance(300);
    options_.stale_events = random_.chance(300) ? 50 : 0;
    options_.busy_remaps = random_.chance(300) ? 100 : 0;
    options_.refused_remaps = random_.chance(500) ? 100 : 0;
    options_.slow_remaps = random_.chance(300) ? 100 : 0;
    options_.slips = random_.chance(500) ? 500 : 0;
    options_.lost_links = random_.chance(500) ? 50 : 0;
    options_.spurious_wakes = random_.chance(300) ? 50 : 0;
    for (uint32_t i = 0; i < kVms; ++i) {
      vms_[i].memory = std::make_unique<SimGuestMemory>(world_, i, options_);
      vms_[i].memory->set_pool(pool_);
    }
    // Frame f holds the value f + 1 for ever.
    for (uint32_t f = 0; f < kPages; ++f) fill(pool_.frame(FrameIndex(f)), f + 1);
    world_.set_hook([this] {
      if (!in_hook_ && random_.chance(200)) {
        in_hook_ = true;
        guest_step(vms_[random_.below(kVms)]);
        in_hook_ = false;
      }
      if (random_.below(kill_every_) == 0) world_.kill_daemon();
    });
  }

  void run(uint32_t rounds) {
    for (uint32_t i = 0; i < rounds; ++i) {
      try {
        for (Vm& vm : vms_) {
          guest_step(vm);
          worker_step(vm);
        }
      } catch (const DaemonKilled&) {
        for (int k = 0; k < 50; ++k) guest_step(vms_[random_.below(kVms)]);
        next_daemon();
      }
      world_.advance(random_.between(1, 30) * kMicrosecond);
    }
    world_.set_hook({});
    for (Vm& vm : vms_) check_all(vm);
  }

  uint64_t shares = 0;
  uint64_t slips = 0;
  uint64_t homes = 0;
  uint64_t deaths = 0;
  uint64_t lost = 0;

 private:
  static constexpr uint32_t kVms = 2;
  enum class State : uint8_t { kHole, kHome, kAsked, kShared, kLoose };
  struct Vm {
    std::unique_ptr<SimGuestMemory> memory;
    State state[kPages] = {};            // as the small engine knows it, in tables that outlive it
    uint64_t value[kPages] = {};         // what the guest wrote last
    bool given_up[kPages] = {};          // and whether it gave that up: or zeros
    std::optional<PageIndex> wanted[2];  // a write under way, by vCPU
    std::optional<PageIndex> discarding;
    uint32_t discard_step = 0;
  };

  void guest_step(Vm& vm) {
    if (random_.chance(vm.discarding ? 300 : 20)) return discard_step(vm);
    const uint32_t vcpu = random_.below(2);
    if (vm.memory->asleep(vcpu)) return;
    const bool write = vm.wanted[vcpu] || random_.chance(300);
    const PageIndex page = vm.wanted[vcpu].value_or(PageIndex(random_.below(kPages)));
    if (vm.discarding == page) return;
    std::byte* frame = vm.memory->touch(vcpu, page, write);
    if (write) vm.wanted[vcpu] = page;
    if (frame == nullptr) return;
    check(vm, page, frame);
    if (!write) return;
    vm.wanted[vcpu].reset();
    vm.given_up[page.raw()] = false;
    vm.value[page.raw()] = random_.chance(700) ? page.raw() + 1 : random_.between(1000, 9999);
    fill({frame, kPageBytes}, vm.value[page.raw()]);
  }

  static void check(const Vm& vm, PageIndex page, const std::byte* frame) {
    const uint64_t value = value_of(frame);
    const bool zeros = value == 0 && vm.given_up[page.raw()];
    ASSERT_TRUE(zeros || value == vm.value[page.raw()])
        << "page " << page.raw() << ": " << value << ", not " << vm.value[page.raw()];
  }

  void discard_step(Vm& vm) {
    if (!vm.discarding) {
      const PageIndex page(random_.below(kPages));
      for (uint32_t vcpu = 0; vcpu < 2; ++vcpu) {
        if (vm.wanted[vcpu] == page || vm.memory->waits_for(vcpu) == page) return;
      }
      vm.discarding = page;
      vm.discard_step = 0;
    }
    switch (vm.discard_step++) {
      case 0:
        vm.given_up[vm.discarding->raw()] = true;
        return vm.memory->set_discard_bit(*vm.discarding);
      case 1:
        return vm.memory->release(*vm.discarding);
      default:
        vm.memory->set_discard_bit(*vm.discarding);
        vm.discarding.reset();
    }
  }

  void set(Vm& vm, PageRun run, State state) {
    for (PageIndex at = run.first; at < run.end(); ++at) vm.state[at.raw()] = state;
  }

  void worker_step(Vm& vm) {
    take_discards(vm);
    for (const Fault fault : vm.memory->take_faults(8)) serve(vm, fault.page);
    Remapped end;
    while (vm.memory->poll_remapped(end)) take_end(vm, end);
    if (vm.memory->remaps_lost()) {
      ++lost;
      asked_ended(vm);
    }
    if (random_.chance(200)) share_some(vm);
    if (random_.chance(100)) home_some(vm);
  }

  // A frame outlives its mark if the second mark is still to come or it was filled since. Pages
  // that may be away keep their marks until they are home.
  void take_discards(Vm& vm) {
    for (uint32_t page = 0; page < kPages; ++page) {
      const uint64_t bit = uint64_t{1} << page;
      if ((vm.memory->discard_bits()[0].load() & bit) == 0) continue;
      State& state = vm.state[page];
      if (state == State::kHole || state == State::kHome) {
        vm.memory->discard_bits()[0].fetch_and(~bit);
        if (state == State::kHome && !present(vm, PageIndex(page))) state = State::kHole;
      } else if (state != State::kAsked) {
        go_home(vm, {PageIndex(page), 1});
      }
    }
  }
  static bool present(Vm& vm, PageIndex page) {
    std::vector<PageRun> runs;
    (void)vm.memory->find_present({page, 1}, runs);
    return !runs.empty();
  }

  void serve(Vm& vm, PageIndex page) {
    take_discards(vm);
    State& state = vm.state[page.raw()];
    if (state == State::kHome && !present(vm, page)) state = State::kHole;
    if (state == State::kHole) {
      if (vm.memory->install_zero({page, 1}).stop == InstallStop::kRetry) return;
      state = State::kHome;
    }
    if (state == State::kShared) state = State::kLoose;
    if (state == State::kHome || state == State::kLoose) (void)vm.memory->unseal({page, 1});
  }

  void share_some(Vm& vm) {
    PageRun run{PageIndex(random_.below(kPages)), 0};
    while (run.end().raw() < kPages && vm.state[run.end().raw()] == State::kHome) ++run.count;
    if (run.count == 0) return;
    (void)vm.memory->seal(run);
    std::vector<std::byte> bytes(run.count * kPageBytes);
    (void)vm.memory->read(run, bytes);
    uint32_t equal = 0;
    while (equal < run.count &&
           value_of(&bytes[equal * kPageBytes]) == run.first.raw() + equal + 1) {
      ++equal;
    }
    run.count = equal;
    if (run.count == 0) return;
    set(vm, run, State::kAsked);
    if (!vm.memory->start_share(run, FrameIndex(run.first.raw()))) set(vm, run, State::kHome);
  }

  void home_some(Vm& vm) {
    PageRun run{PageIndex(random_.below(kPages)), 0};
    const auto wanted = [&vm](uint32_t page) {
      return vm.state[page] == State::kShared || vm.state[page] == State::kLoose;
    };
    while (run.end().raw() < kPages && wanted(run.end().raw())) ++run.count;
    if (run.count > 0) go_home(vm, run);
  }

  void go_home(Vm& vm, PageRun run) {
    set(vm, run, State::kAsked);
    if (!vm.memory->start_home(run)) set(vm, run, State::kLoose);
  }

  void take_end(Vm& vm, const Remapped& end) {
    const bool share = end.kind == Remapped::Kind::kShare;
    if (share && end.done) {
      ++shares;
      slips += end.written != 0 ? 1 : 0;
      set(vm, end.run, State::kShared);
      (void)vm.memory->discard(end.run);
      (void)vm.memory->wake(end.run);  // whose events came before the end
      return;
    }
    homes += !share && end.done ? 1 : 0;
    set(vm, end.run, share || end.done ? State::kHome : State::kLoose);
    (void)vm.memory->unseal(end.run);
  }

  // Unknown whether at home or away: as what may be away.
  void asked_ended(Vm& vm) {
    for (uint32_t page = 0; page < kPages; ++page) {
      if (vm.state[page] == State::kAsked) vm.state[page] = State::kLoose;
      (void)vm.memory->wake({PageIndex(page), 1});
    }
  }

  void next_daemon() {
    ++deaths;
    for (;;) {
      try {
        world_.adopt();
        for (Vm& vm : vms_) {
          asked_ended(vm);
          std::vector<PageRun> present;
          (void)vm.memory->find_present({PageIndex(0), kPages}, present);
          for (const PageRun run : present) {
            for (PageIndex at = run.first; at < run.end(); ++at) {
              if (vm.state[at.raw()] == State::kHole) vm.state[at.raw()] = State::kHome;
            }
          }
        }
        return;
      } catch (const DaemonKilled&) {
      }
    }
  }

  void check_all(Vm& vm) {
    world_.stop_faults();
    for (uint32_t page = 0; page < kPages; ++page) {
      for (int i = 0; i < 1000 && vm.memory->asleep(0); ++i) worker_step(vm);
      const std::byte* frame = nullptr;
      for (int i = 0; i < 1000 && frame == nullptr; ++i) {
        if (!vm.memory->asleep(0)) frame = vm.memory->touch(0, PageIndex(page), false);
        if (frame != nullptr) break;
        worker_step(vm);
        world_.advance(100 * kMicrosecond);
      }
      ASSERT_NE(frame, nullptr) << "page " << page;
      check(vm, PageIndex(page), frame);
    }
    for (uint32_t f = 0; f < kPages; ++f) {
      ASSERT_EQ(value_of(pool_.bytes(FrameIndex(f)).data()), f + 1);
    }
  }

  SimWorld world_;
  Random random_;
  SimSharePool pool_{world_, 1, kPages};
  SimMemoryOptions options_;
  Vm vms_[kVms];
  const uint32_t kill_every_ = 500 << random_.below(8);
  bool in_hook_ = false;
};

TEST(SimSharingWalk, NoOrderOfRequestsAccessesAndDeathsLosesAByte) {
  uint64_t shares = 0, slips = 0, homes = 0, deaths = 0, lost = 0;
  for (uint64_t seed = 1; seed <= 100 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    Walk walk(seed);
    walk.run(2000);
    shares += walk.shares;
    slips += walk.slips;
    homes += walk.homes;
    deaths += walk.deaths;
    lost += walk.lost;
  }
  EXPECT_GT(shares, 1000u);
  EXPECT_GT(slips, 50u);
  EXPECT_GT(homes, 500u);
  EXPECT_GT(deaths, 100u);
  EXPECT_GT(lost, 20u);
}

}  // namespace
}  // namespace ballast::machine::sim
