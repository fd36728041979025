#include "simulator/simulation.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "simulator/verdict.h"

namespace ballast::simulator {

using engine::Host;
using engine::Pager;
using machine::sim::DaemonKilled;

namespace {

// What a killed daemon leaves behind is never destroyed: no destructor runs at kill -9.
constexpr uint64_t kDaemonDeathsMax = 60;  // each leaves its memory behind
struct Grave {
  std::unique_ptr<Host> host;
  std::vector<std::unique_ptr<Pager>> pagers;
  std::vector<std::unique_ptr<engine::ShareGroup>> groups;
};
std::vector<Grave>& graveyard() {
  static auto* graves = new std::vector<Grave>;
  return *graves;
}

VmSpec make_spec(uint32_t index, const VmPlan& plan) {
  return {.name = fmt::format("vm{}", index),
          .uuid = fmt::format("00000000-0000-4000-8000-{:012}", index),
          .configured_bytes = pages_to_bytes(plan.pages),
          .allocation = {.min_bytes = pages_to_bytes(plan.min_pages)},
          .share_group = plan.share_group};
}

}  // namespace

SimVm::SimVm(machine::sim::SimWorld& sim_world, uint32_t index, const VmPlan& vm_plan,
             uint64_t seed, Groups& groups)
    : world(sim_world),
      id(index),
      plan(vm_plan),
      spec(make_spec(index, vm_plan)),
      memory(sim_world, index, vm_plan.memory),
      swap(sim_world, index, vm_plan.swap),
      store(sim_world, index, Pager::tables_bytes(vm_plan.pages),
            Pager::arena_bytes(vm_plan.pages)),
      control(sim_world),
      guest(index, vm_plan, memory, seed),
      balloon(guest, spec.configured_bytes, vm_plan.balloon, ~seed),
      allocation(spec.allocation) {
  if (!spec.share_group.empty()) memory.set_pool(groups.pool(spec.share_group));
}

Simulation::Simulation(Scenario scenario)
    : scenario_(std::move(scenario)),
      world_(scenario_.seed * 2 + 1),
      random_(scenario_.seed * 2),
      groups_(world_, scenario_.pool_frames, scenario_.hash_bits),
      arrived_(scenario_.vms.size(), false) {
  world_.set_hook([this] { at_point(); });
  world_.on_growth = [this] { check_memory(++growths_ % 16 == 0); };
}

Simulation::~Simulation() {
  world_.set_hook({});
  world_.on_growth = {};
  kills_allowed_ = false;
  for (auto& vm : vms_) vm->pager.reset();
}

// ---- the daemon's life

template <typename Work>
void Simulation::guarded(const Work& work) {
  try {
    work();
  } catch (const DaemonKilled&) {
    bury_daemon();
    let_guests_run(random_.below(200));  // nobody serves them meanwhile
    begin_daemon();
  }
}

void Simulation::bury_daemon() {
  ++summary_.daemon_deaths;
  Grave grave;
  grave.host = std::move(host_);
  for (auto& vm : vms_) {
    if (vm->pager) collect(*vm->pager);
    grave.pagers.push_back(std::move(vm->pager));
  }
  grave.groups = groups_.bury();
  graveyard().push_back(std::move(grave));
}

void Simulation::stop_daemon() {
  ++summary_.daemon_restarts;
  kills_allowed_ = false;
  ledger_is_whole_ = false;
  for (auto& vm : vms_) {
    if (!vm->pager) continue;
    collect(*vm->pager);
    part_from(*vm);
  }
  groups_.end_daemon();
  if (host_->ledger().consumed() != scenario_.own_bytes) {
    fail(Verdict::kCrash,
         fmt::format("an orderly stop leaves {} bytes charged", host_->ledger().consumed()));
  }
  host_.reset();
}

void Simulation::begin_daemon() {
  for (;;) {
    try {
      for (auto& vm : vms_) vm->swap.adopt();
      world_.adopt();
      ledger_is_whole_ = false;
      // Most take-overs live; some die in the middle, and the one after them too.
      kills_allowed_ = random_.chance(300);
      auto host =
          Host::create(scenario_.budget_bytes, scenario_.own_bytes, scenario_.options, world_,
                       [](machine::Severity, std::string, std::string, std::string) {});
      if (!host) fail(Verdict::kCrash, host.error().message);
      host_ = std::move(host).value();
      std::erase_if(vms_, [this](const auto& vm) { return !take_over(*vm); });
      groups_.end_recovery();
      groups_.tidy();
      ledger_is_whole_ = true;
      kills_allowed_ = true;
      check_memory(true);
      return;
    } catch (const DaemonKilled&) {
      bury_daemon();
    }
  }
}

// False: the VM died meanwhile and is gone.
bool Simulation::take_over(SimVm& vm) {
  auto pager = Pager::take_over(vm.spec, meet(vm, world_.random().next()));
  if (!pager) {
    part_from(vm);
    if (!vm.memory.dead()) {
      fail(Verdict::kCrash, fmt::format("take-over of a living VM: {}", pager.error().message));
    }
    collect(vm.guest);
    ++summary_.vm_deaths;
    return false;
  }
  vm.pager = std::move(pager).value();
  host_->add({vm.pager.get(), &vm.balloon, {}, vm.share.group}, vm.allocation);
  return true;
}

// The VM enters its group, as the daemon knows it.
engine::PagerParts Simulation::meet(SimVm& vm, uint64_t seed) {
  vm.share = {};
  if (!vm.spec.share_group.empty()) {
    vm.share = groups_.enter(vm.spec.share_group, vm.plan.pages, host_->ledger());
  }
  return {vm.memory,           vm.swap,           vm.store, vm.control,     world_,
          host_->ledger(),     scenario_.options, seed,     vm.share.group, vm.share.number,
          vm.plan.mappings_max};
}

void Simulation::part_from(SimVm& vm) {
  // Its stores lose their charges before they go.
  const bool was_whole = std::exchange(ledger_is_whole_, false);
  if (vm.pager) {
    if (vm.memory.dead()) vm.pager->note_death();
    host_->remove(*vm.pager);
    vm.pager.reset();
  }
  if (vm.share.group != nullptr) vm.share.group->leave(vm.share.number);
  vm.share = {};
  ledger_is_whole_ = was_whole;
}

void Simulation::kill_daemon() {
  kills_allowed_ = true;
  guarded([this] { world_.kill_daemon(); });
}

// ---- VMs come and go

bool Simulation::admit(uint32_t index) {
  const VmPlan& plan = scenario_.vms[index];
  const VmSpec spec = make_spec(index, plan);
  if (!host_->admit(spec)) return false;
  auto vm = std::make_unique<SimVm>(world_, index, plan, random_.next(), groups_);
  // A VM whose first daemon dies before it was accepted simply starts again; not modelled.
  kills_allowed_ = false;
  ledger_is_whole_ = false;
  auto pager = Pager::create(vm->spec, meet(*vm, random_.next()));
  kills_allowed_ = true;
  if (pager) {
    vm->pager = std::move(pager).value();
    host_->add({vm->pager.get(), &vm->balloon, {}, vm->share.group}, vm->allocation);
    vms_.push_back(std::move(vm));
  } else {
    part_from(*vm);
    vm.reset();
    groups_.tidy();
  }
  ledger_is_whole_ = true;
  return pager.has_value();
}

void Simulation::arrivals() {
  for (uint32_t index = 0; index < arrived_.size(); ++index) {
    const bool now = scenario_.vms[index].starts_at <= summary_.accesses || vms_.empty();
    if (arrived_[index] || !now) continue;
    arrived_[index] = true;
    if (!admit(index)) ++summary_.refused_vms;
  }
}

void Simulation::deaths() {
  for (size_t at = 0; at < vms_.size(); ++at) {
    SimVm& vm = *vms_[at];
    if (vm.plan.dies_at != 0 && vm.plan.dies_at <= summary_.accesses) vm.memory.die();
    const bool noticed = vm.memory.dead() && !world_.chance(scenario_.slow_notices);
    if (noticed) remove(at--);
  }
}

void Simulation::collect(const Guest& guest) {
  departed_accesses_ += guest.accesses();
  summary_.verified_pages += guest.verified_pages();
  summary_.ballooned_pages += guest.ballooned_pages();
}

void Simulation::collect(const Pager& pager) {
  const VmReport report = pager.report();
  summary_.zips += report.zips;
  summary_.swap_outs += report.swap_outs;
  summary_.swap_ins += report.swap_ins;
  summary_.share_joins += report.share_joins;
  summary_.share_breaks += report.share_breaks;
}

void Simulation::remove(size_t at) {
  SimVm& vm = *vms_[at];
  collect(*vm.pager);
  kills_allowed_ =
      false;  // the destructor must not be interrupted: that would not be a C++ program
  part_from(vm);
  kills_allowed_ = true;
  collect(vm.guest);
  ++summary_.vm_deaths;
  vms_.erase(vms_.begin() + static_cast<std::ptrdiff_t>(at));
  groups_.tidy();
  check_ledger();
}

// ---- the loop

SimVm* Simulation::some_vm() {
  return vms_.empty() ? nullptr : vms_[random_.below(static_cast<uint32_t>(vms_.size()))].get();
}

void Simulation::let_guests_run(uint32_t steps) {
  for (uint32_t i = 0; i < steps; ++i) {
    SimVm* vm = some_vm();
    if (vm == nullptr || !vm->running()) continue;
    if (vm->guest.step()) ++summary_.accesses;
  }
}

// The machine calls this between any two of its steps, in the middle of the engine's calls.
void Simulation::at_point() {
  if (in_point_) return;
  in_point_ = true;
  if (points_until_guest_ == 0 || --points_until_guest_ == 0) {
    points_until_guest_ = 1 + random_.below(2 * scenario_.interleave);
    let_guests_run(1 + random_.below(4));
  }
  if (!world_.faults_stopped() && random_.below(200000) == 0) {
    if (SimVm* vm = some_vm(); vm != nullptr && vm->plan.dies_at != 0) vm->memory.die();
  }
  in_point_ = false;
  if (scenario_.kill_every == 0 || !kills_allowed_ || world_.faults_stopped()) return;
  if (summary_.daemon_deaths >= kDaemonDeathsMax) return;
  if (points_until_kill_ == 0) points_until_kill_ = random_.between(1, 2 * scenario_.kill_every);
  if (--points_until_kill_ == 0) world_.kill_daemon();
}

// What the daemon neither does nor foresees.
void Simulation::disturb_balloon(SimVm& vm) {
  const uint32_t draw = random_.below(10);
  if (draw == 0) {
    vm.balloon.reset();
  } else if (draw < 4) {
    vm.balloon.set_reachable(random_.chance(500));
  } else {
    vm.balloon.request(pages_to_bytes(random_.below(vm.plan.pages + 1)));
  }
}

bool Simulation::guest_burst() {
  SimVm* vm = some_vm();
  bool moved = false;
  if (vm != nullptr && vm->running()) {
    if (scenario_.balloon_mischief != 0 && random_.below(10000) < scenario_.balloon_mischief) {
      disturb_balloon(*vm);
    }
    vm->balloon.step(world_.peek());
  }
  for (uint32_t i = 0; vm != nullptr && vm->running() && i < scenario_.burst; ++i) {
    const bool done = vm->guest.step();
    summary_.accesses += done ? 1 : 0;
    moved |= done;
    world_.advance(200);
  }
  return moved;
}

bool Simulation::worker_step(SimVm& vm) {
  Pager& pager = *vm.pager;
  bool moved = false;
  const auto faults = vm.memory.take_faults(1 + random_.below(64));
  if (!faults.empty()) pager.handle(faults);
  moved |= !faults.empty();
  moved |= pager.poll_io();
  if (!world_.chance(scenario_.slow_notices) && vm.guest.take_discard_notice()) {
    pager.take_discards();
  }
  moved |= pager.turn();
  return moved;
}

bool Simulation::round() {
  ++rounds_;
  bool moved = guest_burst();
  for (uint32_t i = 0; i < scenario_.worker_weight && !vms_.empty(); ++i) {
    SimVm* vm = some_vm();
    guarded([&] { moved |= worker_step(*vm); });
    // The VM may have gone in a take-over: nothing of it may be used here.
  }
  if (world_.peek() >= next_balance_) {
    next_balance_ = world_.peek() + scenario_.balance_every_ms * kMillisecond;
    host_->tick();
  }
  if (rounds_ % 64 == 0) {
    if (const SimVm* vm = some_vm()) vm->pager->audit();
    check_groups();
    check_memory(true);
  }
  if (scenario_.round_us != 0)
    world_.advance(random_.between(0, scenario_.round_us) * kMicrosecond);
  idle_rounds_ = moved ? 0 : std::min(idle_rounds_ + 1, 12u);
  world_.advance(random_.between(1, 10) * kMicrosecond << idle_rounds_);
  return moved;
}

void Simulation::start() {
  begin_daemon();
  arrivals();
}

Summary Simulation::run() {
  start();
  uint64_t last = 0;
  for (uint32_t without = 0; summary_.accesses < scenario_.accesses && without < 30000;) {
    arrivals();
    deaths();
    if (vms_.empty() && std::all_of(arrived_.begin(), arrived_.end(), [](bool a) { return a; })) {
      break;
    }
    if (world_.bugs.arena_flips && !vms_.empty() && random_.chance(5)) {
      some_vm()->store.flip_arena_bit();
    }
    round();
    if (scenario_.kill_every != 0 && random_.chance(scenario_.clean_restarts) &&
        random_.below(2000) == 0) {
      stop_daemon();
      begin_daemon();
    }
    without = summary_.accesses == last ? without + 1 : 0;
    last = summary_.accesses;
  }
  demand_progress();
  for (const auto& vm : vms_) {
    if (vm->control.frozen()) ++summary_.frozen_vms;
    vm->pager->audit();
    vm->memory.die();
  }
  for (int i = 0; i < 50 && !vms_.empty(); ++i) worker_step(*some_vm());
  while (!vms_.empty()) remove(vms_.size() - 1);
  check_ledger();
  summary_.trace_hash = world_.trace_hash();
  return summary_;
}

}  // namespace ballast::simulator
