#include "simulator/scenario.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/random.h"

namespace ballast::simulator {

namespace {

// Swarm: off in most runs, else some rate up to `most`.
uint32_t sometimes(Random& random, uint32_t permille, uint32_t most) {
  return random.chance(permille) ? 1 + random.below(most) : 0;
}

Workload draw_workload(Random& random) {
  Workload workload;
  workload.random = sometimes(random, 600, 500);
  workload.hot = sometimes(random, 700, 900);
  workload.sequential = 1 + sometimes(random, 600, 900);
  workload.writes = random.chance(200) ? 0 : 50 + random.below(900);
  workload.boot_storm = random.chance(700) || workload.writes == 0;
  for (uint32_t& weight : workload.kinds) weight = sometimes(random, 600, 10);
  workload.kinds[4] += 1;
  return workload;
}

machine::sim::SimMemoryOptions draw_memory(Random& random, uint32_t pages) {
  machine::sim::SimMemoryOptions memory;
  memory.page_count = pages;
  memory.can_sample = random.chance(700);
  memory.async_faults = random.chance(300);
  memory.reads_survive_death = random.chance(500);
  memory.duplicate_events = sometimes(random, 400, 300);
  memory.stale_events = sometimes(random, 400, 200);
  memory.reordering = sometimes(random, 400, 500);
  memory.retries = sometimes(random, 400, 100);
  memory.spurious_wakes = sometimes(random, 200, 50);
  memory.missed_samples = sometimes(random, 400, 500);
  return memory;
}

// Which kinds of disk faults this run has at all.
struct DiskFaults {
  bool errors = false;
  bool corruption = false;
};

machine::sim::SimSwapOptions draw_swap(Random& random, uint32_t slots, DiskFaults faults) {
  machine::sim::SimSwapOptions swap;
  swap.slot_count = slots;
  swap.latency_min = random.between(1, 50) * kMicrosecond;
  swap.latency_max = swap.latency_min + random.between(0, 5000) * kMicrosecond;
  swap.slow = sometimes(random, 400, 100);
  swap.slow_max = swap.latency_max + random.between(1, 200) * kMillisecond;
  if (faults.errors) {
    swap.failed_writes = sometimes(random, 600, 100);
    swap.no_space = sometimes(random, 400, 100);
    swap.failed_reads = sometimes(random, 500, 40);
    swap.bad_slots = sometimes(random, 300, 10);
  }
  if (faults.corruption) {
    swap.flipped_bits = sometimes(random, 500, 10);
    swap.torn_writes = sometimes(random, 500, 10);
    swap.lost_writes = sometimes(random, 500, 10);
  }
  return swap;
}

VmPlan draw_vm(Random& random, uint32_t typical_pages, DiskFaults faults, uint64_t accesses) {
  VmPlan plan;
  plan.pages = typical_pages / 4 + random.below(2 * typical_pages);
  if (random.chance(500)) plan.pages &= ~63u;
  plan.used_pages = random.chance(700) ? plan.pages : 1 + random.below(plan.pages);
  plan.min_pages = random.chance(500) ? random.below(plan.pages / 3) : 0;
  if (random.chance(150))
    plan.min_pages = plan.pages - 1 - random.below(plan.pages / 8);  // few slots
  if (random.chance(30)) plan.min_pages = plan.pages;  // everything reserved: no swap file at all
  plan.vcpus = 1 + random.below(4);
  plan.workload = draw_workload(random);
  plan.discards = sometimes(random, 500, 40);
  plan.unruly_discards = random.chance(200);
  if (random.chance(250)) plan.starts_at = random.below(static_cast<uint32_t>(accesses));
  if (random.chance(200)) plan.dies_at = 1 + random.below(static_cast<uint32_t>(accesses));
  plan.memory = draw_memory(random, plan.pages);
  plan.swap = draw_swap(random, plan.pages - plan.min_pages, faults);
  return plan;
}

machine::sim::SimBalloonOptions draw_balloon(Random& random) {
  using Stats = machine::sim::SimBalloonOptions::Stats;
  machine::sim::SimBalloonOptions balloon;
  balloon.device = random.chance(900);
  balloon.boot = random.chance(500) ? random.between(0, 200) * kMillisecond : 0;
  balloon.free_rate = (16ull << 20) << random.below(9);
  balloon.reclaim_rate = balloon.free_rate / (1 + random.below(32));
  balloon.return_rate = balloon.free_rate * (1 + random.below(8));
  balloon.deaf = random.chance(100);
  if (random.chance(150)) balloon.most_bytes = random.between(0, 4ull << 20);
  balloon.pops = sometimes(random, 300, 20);
  balloon.stats = random.chance(600) ? Stats::kHonest : static_cast<Stats>(random.below(5));
  balloon.total_shrinks = random.chance(500);
  balloon.view_period = sometimes(random, 500, 100) * kMillisecond;
  return balloon;
}

// Which VMs may share, and who of their guests has what in memory.
void draw_sharing(Random& random, Scenario& scenario) {
  const uint32_t salting = random.below(3);  // as Mem.ShareForceSalting
  scenario.options.share_scan_minutes = random.chance(700) ? 1 : 1 + random.below(60);
  scenario.options.share_rate_max = 1024u << random.below(11);
  // Pages are looked at half a second after they were filled, and again later.
  scenario.round_us = uint64_t{1024} << random.below(7);
  scenario.pool_frames = static_cast<uint32_t>(pages_floor(scenario.budget_bytes));
  if (random.chance(150)) scenario.pool_frames = 1 + random.below(256);
  const bool refuses = random.chance(500);
  uint32_t index = 0;
  for (VmPlan& vm : scenario.vms) {
    vm.share_group = fmt::format("salt:{}", random.below(2));
    if (salting == 0) vm.share_group = "all";
    if (salting == 2 && random.chance(300)) vm.share_group = fmt::format("vm:{}", index);
    if (random.chance(80)) vm.share_group.clear();
    if (random.chance(150)) vm.mappings_max = random.below(200);
    vm.workload.common = random.chance(900) ? 200 + random.below(801) : 0;
    vm.workload.restored = sometimes(random, 800, 1000);
    vm.spite = sometimes(random, 300, 900);
    vm.memory.busy_remaps = sometimes(random, 300, 300);
    vm.memory.refused_remaps = refuses ? sometimes(random, 500, 300) : 0;
    vm.memory.slow_remaps = sometimes(random, 400, 500);
    vm.memory.slips = sometimes(random, 500, 800);
    vm.memory.lost_links = sometimes(random, 400, 100);
    ++index;
  }
  if (random.chance(200)) scenario.hash_bits = random.below(12);
}

}  // namespace

Scenario draw_scenario(uint64_t seed, uint64_t accesses) {
  Random random(seed);
  Scenario scenario;
  scenario.seed = seed;
  scenario.accesses = accesses;
  scenario.options.zip_enable = random.chance(750);
  scenario.options.zip_max_percent = random.chance(500) ? 10 : 1 + random.below(100);
  scenario.options.min_free_percent = random.chance(600) ? 0 : 1 + random.below(20);
  scenario.options.victims =
      random.chance(500) ? VictimChoice::kRandom : VictimChoice::kSecondChance;
  scenario.own_bytes = random.between(64, 512) * 1024;
  scenario.interleave = 1 + random.below(random.chance(500) ? 8 : 100);
  scenario.kill_every = random.chance(400) ? 500 + random.below(20000) : 0;
  scenario.clean_restarts = sometimes(random, 500, 500);
  scenario.slow_notices = sometimes(random, 500, 900);
  scenario.balance_every_ms = 5 + random.below(200);
  scenario.worker_weight = 1 + random.below(6);
  scenario.burst = 1 + random.below(30);
  const DiskFaults faults{random.chance(300), random.chance(150)};
  const uint32_t vms = 1 + random.below(6);
  // Most runs are under pressure: the engine's smallest budget holds 4096 pages.
  const uint32_t typical_pages = (random.chance(900) ? 6000 : 1500) / vms + random.below(2000);
  uint64_t promised = 0;
  for (uint32_t i = 0; i < vms; ++i) {
    scenario.vms.push_back(draw_vm(random, typical_pages, faults, accesses));
    promised += pages_to_bytes(scenario.vms.back().pages);
  }
  scenario.vms.front().starts_at = 0;
  const uint64_t least = (16ull << 20) + scenario.own_bytes;
  scenario.budget_bytes = std::max(least, promised * random.between(15, 90) / 100);
  // From numbers of their own, so that older parts of a seed's scenario stay as they were.
  Random balloons(~seed);
  if (balloons.chance(700)) {
    scenario.balloon_mischief = sometimes(balloons, 900, 1000);
    for (VmPlan& vm : scenario.vms) {
      vm.spare = sometimes(balloons, 700, 900);
      vm.balloon = draw_balloon(balloons);
    }
  }
  if (Random shares(seed ^ 0x5a17); shares.chance(600)) draw_sharing(shares, scenario);
  return scenario;
}

std::string describe(const Scenario& scenario) {
  std::string text = fmt::format(
      "seed {}: budget {} KB, own {} KB, zip {} {} %, min-free {} %, victims {}, interleave {}, "
      "kill every {}, "
      "clean restarts {}, slow notices {}, balance {} ms, worker {}, burst {}, accesses {}, "
      "balloon "
      "mischief {}, share pass {} min rate {}, pools {}, hash bits {}, round {} us\n",
      scenario.seed, scenario.budget_bytes / 1024, scenario.own_bytes / 1024,
      scenario.options.zip_enable ? "on" : "off", scenario.options.zip_max_percent,
      scenario.options.min_free_percent,
      scenario.options.victims == VictimChoice::kRandom ? "random" : "second-chance",
      scenario.interleave, scenario.kill_every, scenario.clean_restarts, scenario.slow_notices,
      scenario.balance_every_ms, scenario.worker_weight, scenario.burst, scenario.accesses,
      scenario.balloon_mischief, scenario.options.share_scan_minutes,
      scenario.options.share_rate_max, scenario.pool_frames, scenario.hash_bits, scenario.round_us);
  uint32_t index = 0;
  for (const VmPlan& vm : scenario.vms) {
    const auto& w = vm.workload;
    text += fmt::format(
        "  VM {}: {} pages, {} used, min {}, {} vCPUs, random {} hot {} sequential {} writes "
        "{}{}, kinds {} {} {} {} {}, discards {}{}, starts {} dies {}\n",
        index, vm.pages, vm.used_pages, vm.min_pages, vm.vcpus, w.random, w.hot, w.sequential,
        w.writes, w.boot_storm ? " boot-storm" : "", w.kinds[0], w.kinds[1], w.kinds[2], w.kinds[3],
        w.kinds[4], vm.discards, vm.unruly_discards ? " unruly" : "", vm.starts_at, vm.dies_at);
    const auto& m = vm.memory;
    const auto& s = vm.swap;
    text += fmt::format(
        "        sample {} async {} double {} stale {} reorder {} retry {} spurious {}; disk "
        "{}..{} us slow {}, fail w {} r {} space {} bad {}, flip {} torn {} lost {}\n",
        m.can_sample, m.async_faults, m.duplicate_events, m.stale_events, m.reordering, m.retries,
        m.spurious_wakes, s.latency_min / kMicrosecond, s.latency_max / kMicrosecond, s.slow,
        s.failed_writes, s.failed_reads, s.no_space, s.bad_slots, s.flipped_bits, s.torn_writes,
        s.lost_writes);
    text += fmt::format(
        "        group '{}', mappings {}, common {} restored {}, spite {}; remaps busy {} refused "
        "{} "
        "slow {} slips {} lost {}\n",
        vm.share_group, vm.mappings_max, w.common, w.restored, vm.spite, m.busy_remaps,
        m.refused_remaps, m.slow_remaps, m.slips, m.lost_links);
    const auto& b = vm.balloon;
    text += fmt::format(
        "        balloon {} spare {}, boot {} ms, rates {} {} {} MB/s, deaf {}, most {}, pops "
        "{}, "
        "stats {}{}, view {} ms\n",
        b.device, vm.spare, b.boot / kMillisecond, b.free_rate >> 20, b.reclaim_rate >> 20,
        b.return_rate >> 20, b.deaf, b.most_bytes == UINT64_MAX ? "any" : format_size(b.most_bytes),
        b.pops, static_cast<int>(b.stats), b.total_shrinks ? " without it" : "",
        b.view_period / kMillisecond);
    ++index;
  }
  return text;
}

}  // namespace ballast::simulator
