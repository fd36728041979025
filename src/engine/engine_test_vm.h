// TestVm: one Pager over the simulated machine, with a guest that the test drives by hand.
//
// The guest's accesses block: access() lets the pager work until the page is there. The test keeps
// no copy of guest memory unless it writes through stamp(); check() then compares. One thread.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "engine/pager.h"
#include "machine/sim/sim_guest_memory.h"
#include "machine/sim/sim_swap_device.h"
#include "machine/sim/sim_vm_store.h"
#include "machine/sim/sim_world.h"

namespace ballast::engine {

struct TestSetup {
  uint32_t pages = 256;
  uint32_t min_pages = 0;
  uint64_t budget_bytes = uint64_t{64} << 20;
  Options options{};
  machine::sim::SimMemoryOptions memory{};
  machine::sim::SimSwapOptions swap{};
  uint64_t seed = 1;
};

// The host state is hard while less is free, and paging goes on until then.
inline Thresholds hard_below(uint64_t bytes) {
  Thresholds thresholds;
  thresholds.enter = {bytes, bytes, bytes, bytes, 0};
  thresholds.leave = {bytes, bytes, bytes, bytes, bytes};
  return thresholds;
}

enum class Kind { kZero, kZips, kRandom };

class TestVm {
 public:
  explicit TestVm(TestSetup chosen = {})
      : setup(chosen),
        world(chosen.seed),
        memory(world, 0, with_pages(chosen)),
        swap(world, 0, with_slots(chosen)),
        store(world, 0, Pager::tables_bytes(chosen.pages), Pager::arena_bytes(chosen.pages)),
        control(world) {
    spec.name = "vm1";
    spec.uuid = "5d1f6a4e-0000-4000-8000-000000000001";
    spec.configured_bytes = pages_to_bytes(chosen.pages);
    spec.allocation.min_bytes = pages_to_bytes(chosen.min_pages);
    ledger = std::make_unique<Ledger>(chosen.budget_bytes);
    auto made = Pager::create(spec, parts());
    EXPECT_TRUE(made) << made.error().message;
    pager = std::move(*made);
  }

  PagerParts parts() {
    return {memory, swap, store, control, world, *ledger, setup.options, setup.seed};
  }

  // One round of the worker's loop.
  void pump() {
    pager->handle(memory.take_faults(64));
    pager->poll_io();
    pager->turn();
    world.advance(20 * kMicrosecond);
  }
  void settle() {
    for (int i = 0; i < 2000 && (pager->has_io_in_flight() || memory.has_faults()); ++i) pump();
    pump();
    EXPECT_FALSE(pager->has_io_in_flight());
  }

  // The frame, once the page is there; nullptr if it does not come.
  std::byte* access(PageIndex page, bool write, uint32_t vcpu = 0) {
    for (int i = 0; i < 2000; ++i) {
      if (!memory.asleep(vcpu)) {
        if (std::byte* frame = memory.touch(vcpu, page, write)) return frame;
      }
      pump();
    }
    return nullptr;
  }

  void stamp(uint32_t page, Kind kind, uint32_t version = 1) {
    std::byte* frame = access(PageIndex(page), true);
    ASSERT_NE(frame, nullptr) << "page " << page;
    fill(frame, page, kind, version);
    expected[page] = {kind, version};
  }
  static void fill(std::byte* frame, uint32_t page, Kind kind, uint32_t version) {
    if (kind == Kind::kZero) {
      std::memset(frame, 0, kPageBytes);
      return;
    }
    Random random(uint64_t{page} << 32 | version);
    for (size_t at = 0; at < kPageBytes; at += 8) {
      const bool noise = kind == Kind::kRandom || at < 400;
      const uint64_t word = noise ? random.next() : uint64_t{page} + 1;
      std::memcpy(frame + at, &word, 8);
    }
  }
  // What the guest reads is what it wrote.
  void check(uint32_t page) {
    const std::byte* frame = access(PageIndex(page), false);
    ASSERT_NE(frame, nullptr) << "page " << page;
    std::array<std::byte, kPageBytes> want{};
    if (const auto it = expected.find(page); it != expected.end()) {
      fill(want.data(), page, it->second.first, it->second.second);
    }
    ASSERT_EQ(std::memcmp(frame, want.data(), kPageBytes), 0)
        << "page " << page << " first word " << *reinterpret_cast<const uint64_t*>(frame);
  }
  void check_all() {
    for (uint32_t page = 0; page < setup.pages; ++page) {
      ASSERT_NO_FATAL_FAILURE(check(page));
    }
  }
  // The guest gives a page up; `expected` is zeros then.
  void guest_discards(uint32_t page, bool tell = true) {
    memory.set_discard_bit(PageIndex(page));
    memory.release(PageIndex(page));
    memory.set_discard_bit(PageIndex(page));
    expected.erase(page);
    if (tell) pager->take_discards();
  }

  // Reclaims from this VM until it consumes no more than the bytes, or nothing moves any more.
  void reclaim_to(uint64_t bytes) {
    ledger->set_thresholds(0, hard_below(ledger->budget() + 1));
    set_target(bytes);
    uint64_t before = consumed();
    for (int idle = 0; idle < 200 && consumed() > bytes; ++idle) {
      for (int i = 0; i < 20; ++i) pump();
      if (consumed() < before) idle = 0;
      before = consumed();
    }
    ledger->set_thresholds(0, {});
    set_target(spec.configured_bytes);
    settle();
  }
  void reclaim_all() { reclaim_to(0); }
  void set_target(uint64_t bytes) {
    pager->set_orders(
        {.target_bytes = bytes, .soft_floor_bytes = bytes, .min_bytes = spec.allocation.min_bytes});
  }

  uint64_t consumed() const { return pager->report().consumed_bytes; }
  PageState state(uint32_t page) { return entry(page).state(); }
  PageEntry entry(uint32_t page) { return tables().get(PageIndex(page)); }
  Tables tables() {
    auto opened = Tables::open(store.tables(), setup.pages, setup.pages);
    EXPECT_TRUE(opened);
    return *opened;
  }
  std::string last_event() const {
    return control.events().empty() ? "" : control.events().back().kind;
  }
  uint64_t events(const std::string& kind) const {
    uint64_t count = 0;
    for (const auto& event : control.events()) count += event.kind == kind ? 1 : 0;
    return count;
  }

  // kill -9 at this moment; the next daemon may have its own options and budget.
  void kill() {
    world.set_hook({});
    try {
      world.kill_daemon();
    } catch (const machine::sim::DaemonKilled&) {
    }
    bury();
  }
  // After DaemonKilled was caught.
  void bury() {
    pager.reset();
    ASSERT_EQ(ledger->consumed(), 0u);
    world.adopt();
    swap.adopt();
    ledger = std::make_unique<Ledger>(setup.budget_bytes);
  }
  // "" or the refusal.
  std::string take_over() {
    auto taken = Pager::take_over(spec, parts());
    if (!taken) {
      EXPECT_EQ(ledger->consumed(), 0u);
      return taken.error().message;
    }
    pager = std::move(*taken);
    pager->audit();
    return "";
  }

  static machine::sim::SimMemoryOptions with_pages(const TestSetup& setup) {
    auto options = setup.memory;
    options.page_count = setup.pages;
    return options;
  }
  static machine::sim::SimSwapOptions with_slots(const TestSetup& setup) {
    auto options = setup.swap;
    options.slot_count = setup.pages - setup.min_pages;
    return options;
  }

  TestSetup setup;
  VmSpec spec;
  machine::sim::SimWorld world;
  machine::sim::SimGuestMemory memory;
  machine::sim::SimSwapDevice swap;
  machine::sim::SimVmStore store;
  machine::sim::SimVmControl control;
  std::unique_ptr<Ledger> ledger;
  std::unique_ptr<Pager> pager;
  std::map<uint32_t, std::pair<Kind, uint32_t>> expected;  // page → what was written last
};

}  // namespace ballast::engine
