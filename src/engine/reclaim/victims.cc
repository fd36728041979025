#include "engine/reclaim/victims.h"

#include <algorithm>
#include <array>

#include "engine/sample/active_sampler.h"

namespace ballast::engine {

namespace {

bool evictable(const Vm& vm, PageIndex page) {
  const PageEntry entry = vm.get(page);
  return has_frame(entry.state()) && !entry.in_flight();
}

// The first run of evictable pages in [from, end), at most kRunPages.
PageRun first_run(const Vm& vm, uint32_t from, uint32_t end) {
  while (from < end && !evictable(vm, PageIndex(from))) ++from;
  PageRun run{PageIndex(from), 0};
  while (from + run.count < end && run.count < kRunPages && evictable(vm, run.end())) ++run.count;
  return run;
}

// A linear walk from anywhere finds the last evictable pages when probing does not.
PageRun any_run(const Vm& vm, uint32_t from) {
  const PageRun run = first_run(vm, from, vm.tables.page_count());
  return run.count > 0 ? run : first_run(vm, 0, from);
}

class RandomVictims : public Victims {
 public:
  explicit RandomVictims(Vm& vm) : vm_(vm), random_(vm.seed) {}

  PageRun next() override {
    const uint32_t pages = vm_.tables.page_count();
    for (int probe = 0; probe < 64; ++probe) {
      const uint32_t block = random_.below(pages) / kBlockPages * kBlockPages;
      const PageRun run = first_run(vm_, block, std::min(block + kBlockPages, pages));
      if (run.count > 0) return run;
    }
    return any_run(vm_, random_.below(pages));
  }

 private:
  static constexpr uint32_t kBlockPages = 16;
  Vm& vm_;
  Random random_;
};

class SecondChanceVictims : public Victims {
 public:
  explicit SecondChanceVictims(Vm& vm) : vm_(vm), pages_(vm.tables.page_count()) {
    lead_ = std::clamp(pages_ / 4 / kBlockPages * kBlockPages, kBlockPages, kLeadPagesMax);
  }

  PageRun next() override {
    if (!started_) start();
    for (uint32_t seen = 0; seen < std::min(pages_, kSparedPagesMax);) {
      if (at_ >= block_end_) {
        advance();
        seen += kBlockPages;
      }
      const PageRun run = next_in_block();
      if (run.count > 0) return run;
    }
    // All that was looked at is hot: a longer search would cost a fault more than it could save.
    const PageRun run = any_run(vm_, at_ < pages_ ? at_ : 0);
    if (run.count > 0) at_ = block_end_ = run.end().raw();
    return run;
  }

 private:
  static constexpr uint32_t kBlockPages = 64;  // one word of touched bits
  static constexpr uint32_t kLeadPagesMax = 16384;
  static constexpr uint32_t kSparedPagesMax = 4096;

  void start() {
    started_ = true;
    sample({PageIndex(0), std::min(lead_, pages_)});
  }

  // Best effort: pages whose sample does not start count as touched.
  void sample(PageRun run) {
    vm_.sampler->before_zap(run);
    (void)vm_.memory.start_sample({&run, 1});
  }

  // The back hand enters the next block, the front hand moves as far.
  void advance() {
    if (next_block_ >= pages_) next_block_ = 0;
    at_ = next_block_;
    block_end_ = std::min(at_ + kBlockPages, pages_);
    next_block_ = block_end_;
    block_first_ = at_;
    touched_ = 0;
    if (vm_.memory.touched({PageIndex(at_), block_end_ - at_}, {&touched_, 1}) ==
        machine::MemoryResult::kGone) {
      vm_.gone = true;
    }
    const uint32_t front = (at_ + lead_) % pages_ / kBlockPages * kBlockPages;
    sample({PageIndex(front), std::min(kBlockPages, pages_ - front)});
  }

  PageRun next_in_block() {
    const auto cold = [&](uint32_t page) {
      return (touched_ >> (page - block_first_) & 1) == 0 && evictable(vm_, PageIndex(page));
    };
    while (at_ < block_end_ && !cold(at_)) ++at_;
    PageRun run{PageIndex(at_), 0};
    while (at_ < block_end_ && run.count < kRunPages && cold(at_)) {
      ++at_;
      ++run.count;
    }
    return run;
  }

  Vm& vm_;
  const uint32_t pages_;
  uint32_t lead_;
  bool started_ = false;
  uint32_t next_block_ = 0;
  uint32_t block_first_ = 0;
  uint32_t at_ = 0;
  uint32_t block_end_ = 0;
  uint64_t touched_ = 0;
};

}  // namespace

std::unique_ptr<Victims> Victims::make(Vm& vm) {
  if (vm.options.victims == VictimChoice::kSecondChance && vm.memory.can_sample()) {
    return std::make_unique<SecondChanceVictims>(vm);
  }
  return std::make_unique<RandomVictims>(vm);
}

}  // namespace ballast::engine
