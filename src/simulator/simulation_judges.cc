// What Simulation holds against the engine: memory, ledger, groups, frozen VMs, progress.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "simulator/simulation.h"
#include "simulator/verdict.h"

namespace ballast::simulator {

using engine::Pager;

namespace {

// Buffers that the engine charges but the machine cannot see.
uint64_t unseen_overhead(const VmSpec& spec) {
  const auto pages = static_cast<uint32_t>(spec.configured_bytes / kPageBytes);
  return Pager::overhead_bytes(pages, !spec.share_group.empty()) -
         engine::Tables::bytes_for(pages, 0);
}

}  // namespace

void Simulation::check_memory(bool exact_stores) {
  uint64_t unseen = 0;
  uint64_t dying =
      0;  // frames of dead VMs: the engine may have given them up, the file has not yet
  if (exact_stores) store_bytes_ = groups_.pool_bytes();
  for (const auto& vm : vms_) {
    if (vm->memory.dead()) dying += pages_to_bytes(vm->memory.frames());
    if (exact_stores) store_bytes_ += vm->store.arena_bytes() + vm->store.tables_bytes();
    unseen += unseen_overhead(vm->spec);
  }
  const uint64_t taken =
      scenario_.own_bytes + unseen + pages_to_bytes(world_.frames()) + store_bytes_;
  if (taken > scenario_.budget_bytes) {
    fail(Verdict::kOverBudget,
         fmt::format("{} bytes in use, the budget is {}", taken, scenario_.budget_bytes));
  }
  if (!ledger_is_whole_ || !exact_stores || world_.abandoned()) return;
  if (taken - dying > host_->ledger().consumed() ||
      host_->ledger().consumed() > scenario_.budget_bytes) {
    fail(Verdict::kOverBudget, fmt::format("{} bytes in use, {} charged, budget {}", taken,
                                           host_->ledger().consumed(), scenario_.budget_bytes));
  }
}

// Between two calls into the engine the ledger is the sum of its VMs.
void Simulation::check_ledger() const {
  uint64_t sum = scenario_.own_bytes + groups_.pool_bytes();
  for (const auto& vm : vms_) sum += vm->pager->report().consumed_bytes;
  if (sum != host_->ledger().consumed()) {
    fail(Verdict::kCrash, fmt::format("after a VM left, {} bytes are charged, its VMs hold {}",
                                      host_->ledger().consumed(), sum));
  }
}

// Frames are counted as often as pages name them.
void Simulation::check_groups() const {
  std::map<const engine::ShareGroup*, std::vector<uint32_t>> named;
  for (const auto& vm : vms_) {
    if (vm->share.group == nullptr) continue;
    auto& frames = named[vm->share.group];
    frames.resize(scenario_.pool_frames);
    const auto tables =
        engine::Tables::open(vm->store.tables(), vm->plan.pages, vm->plan.pages).value();
    for (uint32_t page = 0; page < vm->plan.pages; ++page) {
      const engine::PageEntry entry = tables.get(PageIndex(page));
      if (engine::is_away(entry.state())) ++frames[entry.frame().raw()];
    }
  }
  for (const auto& [group, frames] : named) groups_.audit(*group, frames);
}

// A VM may be stopped only for a page that the disk really damaged, and the report must say so.
void Simulation::check_frozen(const SimVm& vm) const {
  const auto& events = vm.control.events();
  const bool reported = std::any_of(events.begin(), events.end(),
                                    [](const auto& event) { return event.kind == "page.lost"; });
  if (vm.swap.damage() == 0 || !reported) {
    fail(Verdict::kWrongData,
         fmt::format("VM {} is frozen with {} lost pages; faults of its disk: {}, reported: {}",
                     vm.id, vm.pager->report().lost_pages, vm.swap.damage(), reported));
  }
}

bool Simulation::all_progressed(const std::vector<std::vector<uint64_t>>& goals) const {
  for (size_t at = 0; at < vms_.size(); ++at) {
    const SimVm& vm = *vms_[at];
    if (!vm.running()) continue;
    for (uint32_t vcpu = 0; vcpu < vm.plan.vcpus; ++vcpu) {
      if (vm.guest.accesses_of(vcpu) < goals[at][vcpu]) return false;
    }
  }
  return true;
}

// Misbehaviour stops, disks are repaired, the operator lets frozen VMs try again: now everybody
// must run.
void Simulation::demand_progress() {
  constexpr uint64_t kAccesses = 50;
  constexpr Nanoseconds kLimit = 300 * kSecond;  // a failed disk is tried again after at most 64 s
  world_.stop_faults();
  deaths();
  std::vector<std::vector<uint64_t>> goals;
  for (auto& vm : vms_) {
    if (vm->control.frozen()) check_frozen(*vm);
    vm->swap.repair();
    vm->control.resume();
    (void)vm->pager->retry_lost();
    goals.emplace_back();
    for (uint32_t i = 0; i < vm->plan.vcpus; ++i) {
      goals.back().push_back(vm->guest.accesses_of(i) + kAccesses);
    }
  }
  const Nanoseconds start = world_.peek();
  while (!all_progressed(goals)) {
    if (world_.peek() - start < kLimit) {
      round();
      world_.advance(kMillisecond);  // who still runs must not hide for long who does not
      continue;
    }
    for (size_t at = 0; at < vms_.size(); ++at) {
      for (uint32_t i = 0; vms_[at]->running() && i < vms_[at]->plan.vcpus; ++i) {
        if (vms_[at]->guest.accesses_of(i) >= goals[at][i]) continue;
        const auto page = vms_[at]->memory.waits_for(i);
        fail(Verdict::kNoProgress,
             fmt::format("vCPU {} of VM {} does not run ({} of {} accesses), asleep on page {}", i,
                         vms_[at]->id, vms_[at]->guest.accesses_of(i), goals[at][i],
                         page ? static_cast<int64_t>(page->raw()) : -1));
      }
    }
  }
  for (const auto& vm : vms_) {
    if (vm->control.frozen()) check_frozen(*vm);
  }
}

}  // namespace ballast::simulator
