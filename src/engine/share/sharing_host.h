// SharingHost: VMs of one salt group over the simulated machine, driven by hand. For tests.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "engine/pager.h"
#include "machine/sim/sim_guest_memory.h"
#include "machine/sim/sim_share_pool.h"
#include "machine/sim/sim_swap_device.h"
#include "machine/sim/sim_vm_store.h"
#include "machine/sim/sim_world.h"

namespace ballast::engine {

// The pool belongs to the VMs, as their processes hold it: it survives the daemon's group.
class BorrowedPool final : public machine::SharePool {
 public:
  explicit BorrowedPool(machine::SharePool& pool) : pool_(pool) {}
  uint32_t frame_count() const override { return pool_.frame_count(); }
  std::span<std::byte, kPageBytes> frame(FrameIndex frame) override { return pool_.frame(frame); }
  void release(FrameRun run) override { pool_.release(run); }
  void find_present(std::vector<FrameRun>& present) override { pool_.find_present(present); }

 private:
  machine::SharePool& pool_;
};

struct SharingSetup {
  uint32_t vms = 2;
  uint32_t pages = 256;
  uint64_t budget_bytes = uint64_t{64} << 20;
  machine::sim::SimMemoryOptions memory{};
  uint64_t mappings_max = 1 << 16;
  Options options{};
  uint64_t seed = 1;
  uint32_t hash_bits = 128;
};

class SharingHost {
 public:
  struct One {
    VmSpec spec;
    machine::sim::SimGuestMemory memory;
    machine::sim::SimSwapDevice swap;
    machine::sim::SimVmStore store;
    machine::sim::SimVmControl control;
    uint32_t member = 0;
    std::unique_ptr<Pager> pager;
    std::map<uint32_t, uint64_t> expected;  // page → content; 0: zeros

    One(machine::sim::SimWorld& world, uint32_t index, const SharingSetup& setup)
        : memory(world, index, memory_options(setup)),
          swap(world, index, {.slot_count = setup.pages}),
          store(world, index, Pager::tables_bytes(setup.pages), Pager::arena_bytes(setup.pages)),
          control(world) {
      spec.name = fmt::format("vm{}", index);
      spec.configured_bytes = pages_to_bytes(setup.pages);
      spec.share_group = "all";
    }
    static machine::sim::SimMemoryOptions memory_options(const SharingSetup& setup) {
      auto options = setup.memory;
      options.page_count = setup.pages;
      return options;
    }
  };

  explicit SharingHost(const SharingSetup& chosen = {})
      : setup(chosen), world(chosen.seed), pool(world, 0, chosen.vms * chosen.pages) {
    setup.options.share_rate_max = 0;  // tests look at pages themselves, or set a rate
    for (uint32_t i = 0; i < setup.vms; ++i) {
      vms.push_back(std::make_unique<One>(world, i, setup));
      vms.back()->memory.set_pool(pool);
    }
    start(false);
  }
  ~SharingHost() { stop(); }

  void start(bool take_over) {
    ledger = std::make_unique<Ledger>(setup.budget_bytes);
    ledger->set_thresholds(setup.vms * uint64_t{64 * 1024}, {});  // as the host does
    group = std::make_unique<ShareGroup>("all", std::make_unique<BorrowedPool>(pool), *ledger,
                                         PageHasher(99, setup.hash_bits));
    for (auto& vm : vms) {
      for (int i = 0; take_over && i < 1000; ++i) pump();
      vm->member = group->enter(setup.pages, {});
      const PagerParts parts{vm->memory,  vm->swap,   vm->store,         vm->control,
                             world,       *ledger,    setup.options,     setup.seed,
                             group.get(), vm->member, setup.mappings_max};
      auto made = take_over ? Pager::take_over(vm->spec, parts) : Pager::create(vm->spec, parts);
      ASSERT_TRUE(made) << made.error().message;
      vm->pager = std::move(*made);
    }
    if (take_over) group->end_recovery();
  }
  void stop() {
    for (auto& vm : vms) {
      if (vm->pager == nullptr) continue;
      vm->pager.reset();
      group->leave(vm->member);
    }
    group.reset();
    if (ledger != nullptr) {
      EXPECT_EQ(ledger->consumed(), 0u);
    }
    ledger.reset();
  }
  // kill -9 at this moment, and the next daemon, to which the VMs come back one by one, working in
  // between.
  void restart() {
    world.set_hook({});
    try {
      world.kill_daemon();
    } catch (const machine::sim::DaemonKilled&) {
    }
    stop();
    world.adopt();
    for (auto& vm : vms) vm->swap.adopt();
    start(true);
  }
  void vm_dies(uint32_t index) {
    One& vm = *vms[index];
    vm.memory.die();
    vm.pager->note_death();
    vm.pager.reset();
    group->leave(vm.member);
  }

  void pump() {
    for (auto& vm : vms) {
      if (vm->pager == nullptr) continue;
      vm->pager->handle(vm->memory.take_faults(64));
      vm->pager->poll_io();
      vm->pager->turn();
    }
    world.advance(50 * kMicrosecond);
  }
  void pump_for(Nanoseconds span) {
    const Nanoseconds end = world.now() + span;
    while (world.now() < end) pump();
  }
  std::byte* access(uint32_t index, uint32_t page, bool write, uint32_t vcpu = 0) {
    One& vm = *vms[index];
    for (int i = 0; i < 40000; ++i) {
      if (!vm.memory.asleep(vcpu)) {
        if (std::byte* frame = vm.memory.touch(vcpu, PageIndex(page), write)) return frame;
      }
      pump();
    }
    return nullptr;
  }
  static void fill(std::byte* frame, uint64_t content) {
    std::memset(frame, 0, kPageBytes);
    if (content == 0) return;
    Random random(content);
    for (size_t at = 0; at < kPageBytes; at += 8) {
      const uint64_t word = random.next();
      std::memcpy(frame + at, &word, 8);
    }
  }
  void write(uint32_t index, uint32_t page, uint64_t content) {
    std::byte* frame = access(index, page, true);
    ASSERT_NE(frame, nullptr) << "vm " << index << " page " << page;
    fill(frame, content);
    vms[index]->expected[page] = content;
  }
  void check(uint32_t index, uint32_t page) {
    const std::byte* frame = access(index, page, false);
    ASSERT_NE(frame, nullptr) << "vm " << index << " page " << page;
    std::array<std::byte, kPageBytes> want{};
    fill(want.data(), vms[index]->expected[page]);
    ASSERT_EQ(std::memcmp(frame, want.data(), kPageBytes), 0) << "vm " << index << " page " << page;
  }
  void check_all() {
    for (uint32_t index = 0; index < vms.size(); ++index) {
      if (vms[index]->pager == nullptr) continue;
      for (const auto& [page, content] : std::map(vms[index]->expected)) {
        ASSERT_NO_FATAL_FAILURE(check(index, page));
      }
    }
  }
  void discard(uint32_t index, uint32_t page) {
    One& vm = *vms[index];
    vm.memory.set_discard_bit(PageIndex(page));
    vm.memory.release(PageIndex(page));
    vm.memory.set_discard_bit(PageIndex(page));
    vm.expected[page] = 0;
    vm.pager->take_discards();
  }
  // Lets every VM be looked at a few times.
  void scan(int passes = 3) {
    Options options = setup.options;
    options.share_rate_max = 1 << 20;
    options.share_scan_minutes = 1;
    set_options(options);
    for (int i = 0; i < 80 * passes; ++i) {
      for (int turns = 0; turns < 10; ++turns) pump();
      world.advance(kSecond);
    }
    set_options(setup.options);
    pump_for(50 * kMillisecond);
  }
  void set_options(const Options& options) {
    for (auto& vm : vms) {
      if (vm->pager != nullptr) vm->pager->set_options(options);
    }
  }
  PageState state(uint32_t index, uint32_t page) {
    auto tables = Tables::open(vms[index]->store.tables(), setup.pages, setup.pages);
    return tables->get(PageIndex(page)).state();
  }
  uint64_t count(uint32_t index, PageState wanted) {
    uint64_t count = 0;
    for (uint32_t page = 0; page < setup.pages; ++page)
      count += state(index, page) == wanted ? 1 : 0;
    return count;
  }
  void audit() {
    for (auto& vm : vms) {
      if (vm->pager != nullptr) vm->pager->audit();
    }
  }

  SharingSetup setup;
  machine::sim::SimWorld world;
  machine::sim::SimSharePool pool;
  std::unique_ptr<Ledger> ledger;
  std::unique_ptr<ShareGroup> group;
  std::vector<std::unique_ptr<One>> vms;
};

}  // namespace ballast::engine
