#include "simulator/fluid/world.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace ballast::simulator::fluid {

namespace {

// Reclaim works in this; guests never get it. As the engine's, per VM.
constexpr Bytes kReservePerVm = 64 * 1024;
constexpr Bytes kBringBackRate = 50 * kMb;
constexpr Bytes kSwapReadRate = 100 * kMb;
// Active memory cools down in the estimate as slowly as the engine's slow average.
constexpr double kCoolingTime = 60;

}  // namespace

World::World(const HostPlan& plan, Rule& rule)
    : plan_(plan), rule_(rule), booted_(plan.vms.size(), false) {
  boot();
}

Bytes World::free() const {
  Bytes consumed = 0;
  for (const auto& vm : vms_) consumed += vm->consumed();
  return plan_.memory - consumed;
}

const Vm* World::find(const VmPlan& plan) const {
  for (const auto& vm : vms_) {
    if (&vm->plan == &plan) return vm.get();
  }
  return nullptr;
}

// The kernel's lowest watermark, or what Ballast keeps for reclaim.
Bytes World::kept_free() const {
  return rule_.pager() == Rule::Pager::kOwn ? static_cast<double>(vms_.size()) * kReservePerVm
                                            : plan_.memory * 0.004;
}

bool World::step() {
  if (now_ >= plan_.seconds) return false;
  boot();
  for (auto& vm : vms_) {
    vm->guest.follow(vm->plan.demand.at(now_));
    vm->zipped_out = vm->swapped_out = 0;
  }
  ask_rule();
  for (auto& vm : vms_) {
    if (vm->order.balloon_bytes) vm->driver.request(*vm->order.balloon_bytes);
    vm->driver.set_stats_period(vm->order.stats_period);
    vm->driver.run(vm->guest, now_, kStep);
    if (vm->plan.reports_free) vm->guest.report_free(kStep);
    vm->guest_disk = vm->guest.make_room(kStep);
  }
  page_out();
  bring_back();
  live();
  now_ = static_cast<double>(++steps_) * kStep;
  BALLAST_CHECK_THAT(free() > -to_bytes(kPageBytes), "{} bytes free", free());
  return true;
}

// A VM starts when what it costs before it touches anything is there.
void World::boot() {
  for (size_t i = 0; i < plan_.vms.size(); ++i) {
    const VmPlan& plan = plan_.vms[i];
    if (booted_[i] || plan.boots_at > now_) continue;
    if (plan.boots_at > 0 && free() < plan.overhead + kept_free()) continue;
    booted_[i] = true;
    vms_.push_back(std::make_unique<Vm>(plan));
    vms_.back()->booted_at = now_;
    vms_.back()->guest.follow(plan.demand.at(now_));
    vms_.back()->driver.run(vms_.back()->guest, now_, kStep);
  }
}

void World::ask_rule() {
  std::vector<VmSeen> seen;
  std::vector<Order> orders;
  for (auto& vm : vms_) {
    estimate_active(*vm);
    seen.push_back({.name = vm->plan.name,
                    .configured_bytes = to_count(vm->plan.configured),
                    .allocation = vm->plan.allocation,
                    .overhead_bytes = to_count(vm->plan.overhead),
                    .consumed_bytes = to_count(vm->consumed()),
                    .resident_bytes = to_count(vm->guest.resident().total()),
                    .paged_bytes = to_count(vm->guest.paged().total()),
                    .active_bytes = to_count(vm->active_estimate),
                    .stall = vm->lived.host_stall / kStep,
                    .balloon = vm->driver.view()});
    orders.push_back(vm->order);
  }
  // The planner takes 0 for "never": the clock does not start there.
  const auto now = static_cast<Nanoseconds>(std::llround((now_ + 1000) * 1000)) * kMillisecond;
  for (VmSeen& vm : seen) {
    if (vm.balloon.stats) vm.balloon.stats->at += 1000 * kSecond;
  }
  rule_.act({now, to_count(plan_.memory), to_count(free())}, seen, orders);
  for (size_t i = 0; i < vms_.size(); ++i) vms_[i]->order = orders[i];
}

// Like the sampler's: up at once, down slowly, everything until the first period is over.
void World::estimate_active(Vm& vm) const {
  const Held& resident = vm.guest.resident();
  const Held& paged = vm.guest.paged();
  const double age = vm.plan.boots_at > 0 ? now_ - vm.booted_at : kNever;
  if (age < plan_.options.sample_period_s) {
    vm.active_estimate = resident.total() + paged.total();
    return;
  }
  const Bytes active = resident.hot + paged.hot;
  const double kept = std::exp(-kStep / kCoolingTime);
  vm.active_estimate = std::max(active, active + (vm.active_estimate - active) * kept);
}

// When there is too little, all who wait get the same, and nobody more than he wants: every worker
// (or thread in the kernel) tries as often as the others, whoever it works for.
std::vector<Bytes> World::grant(std::span<const Wants> wants) const {
  std::vector<size_t> order;
  for (size_t i = 0; i < wants.size(); ++i) {
    if (!vms_[i]->blocked) order.push_back(i);
  }
  std::ranges::sort(order, {}, [&](size_t i) { return wants[i].frames(); });
  std::vector<Bytes> granted(wants.size(), 0);
  Bytes left = std::max(0.0, free() - kept_free());
  for (size_t done = 0; done < order.size(); ++done) {
    const size_t i = order[done];
    granted[i] = std::min(wants[i].frames(), left / static_cast<double>(order.size() - done));
    left -= granted[i];
  }
  return granted;
}

void World::live() {
  std::vector<Wants> wants;
  Bytes reads = 0;
  for (const auto& vm : vms_) {
    wants.push_back(vm->guest.wants(kStep));
    reads += wants.back().back.total() * vm->swapped_part();
  }
  const double read_part = reads > disk_reads_ ? disk_reads_ / reads : 1;
  for (size_t i = 0; i < vms_.size(); ++i) {
    // A page more is no reason: pagers take runs, and are at times a little above the floor.
    const Bytes most = to_bytes(vms_[i]->order.block_above_bytes) + to_bytes(kPageBytes);
    vms_[i]->blocked = wants[i].frames() > 0 && vms_[i]->consumed() > most;
  }
  const std::vector<Bytes> granted = grant(wants);
  for (size_t i = 0; i < vms_.size(); ++i) {
    Vm& vm = *vms_[i];
    vm.waits_for = std::max(0.0, wants[i].urgent_frames() - granted[i]);
    vm.lived = vm.guest.live(wants[i], granted[i], read_part, vm.swapped_part(), kStep);
    vm.lived.guest_stall =
        std::min(kStep - vm.lived.host_stall, vm.lived.guest_stall + vm.guest_disk);
  }
}

void World::bring_back() {
  disk_reads_ = kSwapReadRate * kStep;
  for (auto& vm : vms_) {
    if (!vm->order.bring_back) continue;
    const Bytes most = std::min({static_cast<Bytes>(vm->order.target_bytes) - vm->consumed(),
                                 kBringBackRate * kStep, disk_reads_, vm->swapped});
    if (most <= 0 || free() < to_bytes(rule_.paging_stops_at()) * 1.25 + most) continue;
    const Bytes brought = vm->guest.bring_back(most);
    disk_reads_ -= brought;
    vm->swapped -= brought;
  }
}

}  // namespace ballast::simulator::fluid
