#include "simulator/demo.h"

#include <fmt/core.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "simulator/simulation.h"
#include "simulator/verdict.h"

namespace ballast::simulator {

namespace {

using WallClock = std::chrono::steady_clock;

constexpr uint32_t kVms = 4;
constexpr uint64_t kVmBytes = 256ull << 20;
constexpr uint64_t kVerifiedBytes = 180ull << 20;
constexpr uint64_t kBudgetBytes = 512ull << 20;

Scenario demo_scenario() {
  Scenario scenario;
  scenario.seed = 1;
  scenario.budget_bytes = kBudgetBytes;
  scenario.own_bytes = 4 << 20;
  scenario.interleave = 50;
  scenario.worker_weight = 2;
  scenario.burst = 64;
  for (uint32_t i = 0; i < kVms; ++i) {
    VmPlan vm;
    vm.pages = static_cast<uint32_t>(kVmBytes / kPageBytes);
    vm.used_pages = static_cast<uint32_t>(kVerifiedBytes / kPageBytes);
    vm.vcpus = 2;
    vm.workload = {.random = 50, .hot = 850, .sequential = 100, .writes = 300, .boot_storm = true};
    vm.workload.kinds[0] = 2;
    vm.workload.kinds[3] = 4;
    vm.workload.kinds[4] = 3;
    vm.memory.page_count = vm.pages;
    vm.swap.slot_count = vm.pages;
    scenario.vms.push_back(vm);
  }
  return scenario;
}

double megabytes(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

void print_table(const Simulation& simulation, double seconds) {
  const HostReport host = simulation.host().report();
  fmt::print(
      "{:6.1f} s  budget {:.0f} MB, promised {:.0f} MB, consumed {:.1f} MB, free {:.1f} MB, {}\n",
      seconds, megabytes(host.budget_bytes), megabytes(host.promised_bytes),
      megabytes(host.consumed_bytes), megabytes(host.free_bytes), host.state);
  fmt::print("  {:<6}{:>12}{:>12}{:>12}{:>12}{:>12}{:>10}\n", "VM", "configured", "consumed",
             "compressed", "swapped", "verified", "errors");
  for (const auto& vm : simulation.vms()) {
    const VmReport report = vm->pager->report();
    fmt::print("  {:<6}{:>9.0f} MB{:>9.1f} MB{:>9.1f} MB{:>9.1f} MB{:>12}{:>10}\n", vm->spec.name,
               megabytes(report.spec.configured_bytes), megabytes(report.consumed_bytes),
               megabytes(report.compressed_bytes), megabytes(report.swapped_bytes),
               vm->guest.verified_pages(), vm->guest.checksum_errors());
  }
  std::fflush(stdout);
}

nlohmann::json summary_json(const Simulation& simulation, uint64_t peak_bytes, uint64_t restarts) {
  nlohmann::json vms = nlohmann::json::array();
  uint64_t errors = 0;
  uint64_t verified = 0;
  for (const auto& vm : simulation.vms()) {
    const VmReport report = vm->pager->report();
    errors += vm->guest.checksum_errors();
    verified += vm->guest.verified_pages();
    vms.push_back({{"name", vm->spec.name},
                   {"configured_bytes", report.spec.configured_bytes},
                   {"consumed_bytes", report.consumed_bytes},
                   {"compressed_bytes", report.compressed_bytes},
                   {"swapped_bytes", report.swapped_bytes},
                   {"verified_pages", vm->guest.verified_pages()},
                   {"checksum_errors", vm->guest.checksum_errors()}});
  }
  return {{"budget_bytes", kBudgetBytes},
          {"promised_bytes", kVms * kVmBytes},
          {"peak_consumed_bytes", peak_bytes},
          {"checksum_errors", errors},
          {"verified_pages", verified},
          {"daemon_restarts", restarts},
          {"machine", "simulated"},
          {"vms", std::move(vms)}};
}

}  // namespace

int run_demo(const DemoRequest& request) {
  begin_judging(1, 0);
  Simulation simulation(demo_scenario());
  simulation.start();
  for (const auto& vm : simulation.vms()) vm->guest.count_errors();
  const auto start = WallClock::now();
  double next_table = 2;
  double next_kill = request.kill_daemon_every_seconds;
  uint64_t restarts = 0;
  uint64_t peak = 0;
  double seconds = 0;
  while (seconds < request.seconds) {
    for (int i = 0; i < 256; ++i) simulation.round();
    seconds = std::chrono::duration<double>(WallClock::now() - start).count();
    peak = std::max(peak, simulation.host().report().peak_consumed_bytes);
    if (seconds >= next_table) {
      print_table(simulation, seconds);
      next_table += 2;
    }
    if (request.kill_daemon_every_seconds != 0 && seconds >= next_kill) {
      simulation.kill_daemon();
      ++restarts;
      next_kill += request.kill_daemon_every_seconds;
      fmt::print("{:6.1f} s  daemon killed, the next one has taken over\n", seconds);
    }
  }
  const auto summary = summary_json(simulation, peak, restarts);
  fmt::print(
      "\nSimulated machine: {} VMs, promised {:.0f} MB on {:.0f} MB, peak {:.1f} MB; {} pages "
      "verified, {} checksum errors; the daemon died {} times\n",
      kVms, megabytes(kVms * kVmBytes), megabytes(kBudgetBytes), megabytes(peak),
      summary["verified_pages"].get<uint64_t>(), summary["checksum_errors"].get<uint64_t>(),
      restarts);
  if (!request.json_file.empty()) {
    std::ofstream file(request.json_file);
    file << summary.dump(2) << "\n";
    if (!file.flush()) {
      fmt::print(stderr, "cannot write {}: check that its directory exists and has room\n",
                 request.json_file);
      return 74;
    }
  }
  return summary["checksum_errors"] == 0 ? 0 : static_cast<int>(Verdict::kWrongData);
}

}  // namespace ballast::simulator
