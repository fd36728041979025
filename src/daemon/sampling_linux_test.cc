// The estimate of active memory on the real machine: a guest within this process whose vCPU is a
// thread, served by a real Pager over userfaultfd.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>

#include "base/random.h"
#include "engine/pager.h"
#include "machine/linux/clock.h"
#include "machine/linux/swap_file.h"
#include "machine/linux/test_guest.h"
#include "machine/linux/vm_store.h"

namespace ballast::daemon {
namespace {

using engine::Pager;
using linux_machine::MemfdStore;
using linux_machine::SwapFile;
using linux_machine::TestGuest;

constexpr uint32_t kPages = 16384;
// The VM's own time runs faster than ours, so that its shortest period does not take long.
constexpr uint64_t kHaste = 2;

class HastyVm final : public machine::VmControl {
 public:
  void freeze(const char*) override {}
  void event(machine::Severity, std::string, std::string) override {}
  Nanoseconds run_time() const override { return clock_.now() * kHaste; }

 private:
  linux_machine::MonotonicClock clock_;
};

// Touches the first `set` of the pages it was given, round after round.
class Vcpu {
 public:
  Vcpu(const TestGuest& guest, std::vector<uint32_t> pages)
      : guest_(guest), pages_(std::move(pages)), thread_([this] { run(); }) {}
  ~Vcpu() { EXPECT_TRUE(done_.load()) << "stop() it while its faults are served"; }
  void use(uint32_t set) { set_.store(set); }
  void stop() { stopping_.store(true); }
  bool done() const { return done_.load(); }
  void join() { thread_.join(); }

 private:
  void run() {
    for (uint8_t round = 0; !stopping_.load(); ++round) {
      const uint32_t set = set_.load();
      for (uint32_t i = 0; i < set; ++i) {
        auto* byte = reinterpret_cast<volatile uint8_t*>(guest_.page(pages_[i]));
        if (i % 2 == 0) {
          *byte = round;
        } else {
          (void)*byte;
        }
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    done_.store(true);
  }

  const TestGuest& guest_;
  const std::vector<uint32_t> pages_;
  std::atomic<uint32_t> set_ = 0;
  std::atomic<bool> stopping_ = false;
  std::atomic<bool> done_ = false;
  std::thread thread_;
};

class SamplingOnLinux : public testing::Test {
 protected:
  void SetUp() override {
    std::string why_not;
    guest_ = TestGuest::make({kPages / 4, kPages / 4 * 3}, why_not);
    if (!guest_) GTEST_SKIP() << why_not;
    memory_ = guest_->open_memory();
    if (!memory_->can_sample()) GTEST_SKIP() << "/proc/self/pagemap cannot be opened";
    VmSpec spec;
    spec.name = "sampled";
    spec.configured_bytes = pages_to_bytes(kPages);
    store_ = MemfdStore::create("sampled", Pager::tables_bytes(kPages), Pager::arena_bytes(kPages))
                 .value();
    swap_ = SwapFile::create("/var/tmp", "sampled", pages_to_bytes(kPages)).value();
    options_.sample_period_s = 0;
    const engine::PagerParts parts{*memory_, *swap_, *store_, control_, clock_, ledger_, options_};
    pager_ = Pager::create(spec, parts).value();
    std::vector<uint32_t> pages(kPages);
    std::iota(pages.begin(), pages.end(), 0u);
    Random random(11);
    for (uint32_t i = 0; i + 1 < kPages; ++i)
      std::swap(pages[i], pages[i + random.below(kPages - i)]);
    vcpu_ = std::make_unique<Vcpu>(*guest_, std::move(pages));
  }
  void TearDown() override {
    if (!vcpu_) return;
    vcpu_->stop();
    while (!vcpu_->done()) work();
    vcpu_->join();
  }

  // One round of a worker's loop.
  void work() {
    std::array<machine::Fault, 32> faults;
    const size_t count = memory_->read_faults(faults);
    pager_->handle(std::span(faults).first(count));
    pager_->poll_io();
    pager_->turn();
    if (count == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  void work_until_period(uint64_t period) {
    while (pager_->active().periods < period) work();
  }
  double part(uint64_t bytes) const { return static_cast<double>(bytes) / pages_to_bytes(kPages); }

  Options options_;
  HastyVm control_;
  linux_machine::MonotonicClock clock_;
  engine::Ledger ledger_{uint64_t{256} << 20};
  std::unique_ptr<TestGuest> guest_;
  std::unique_ptr<linux_machine::UffdMemory> memory_;
  std::unique_ptr<MemfdStore> store_;
  std::unique_ptr<SwapFile> swap_;
  std::unique_ptr<Pager> pager_;
  std::unique_ptr<Vcpu> vcpu_;
};

TEST_F(SamplingOnLinux, TheEstimateIsWhatTheVcpuTouches) {
  vcpu_->use(kPages);
  while (pager_->report().resident_bytes < pages_to_bytes(kPages)) work();
  vcpu_->use(kPages * 3 / 10);
  for (int i = 0; i < 100; ++i) work();
  options_.sample_period_s = 1;
  pager_->set_options(options_);
  for (uint64_t period = 1; period <= 6; ++period) {
    work_until_period(period);
    const auto now = pager_->active();
    fmt::print("period {}: {:.1f} ± {:.1f} %, {} faults so far\n", period, 100 * part(now.period),
               100 * part(now.period_error), now.faults_cost);
    // Twice the published interval: 4 standard deviations.
    EXPECT_NEAR(part(now.period), 0.3, 2 * part(now.period_error)) << period;
    EXPECT_LE(now.faults_cost, 120 * period);
    EXPECT_GT(now.faults_cost, 20 * period);
  }
  EXPECT_LE(part(pager_->active().period_error), 0.05);
  // It rises within one period, and stays while that lasts.
  vcpu_->use(kPages * 8 / 10);
  work_until_period(7);
  work_until_period(8);
  EXPECT_NEAR(part(pager_->active().period), 0.8, 2 * part(pager_->active().period_error));
  EXPECT_GT(part(pager_->report().active_bytes), 0.65);
}

}  // namespace
}  // namespace ballast::daemon
