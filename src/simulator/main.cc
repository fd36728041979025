// ballast-sim: the engine on a simulated machine. See --help and README.md.
#include <fmt/core.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "simulator/demo.h"
#include "simulator/fluid/report.h"
#include "simulator/simulation.h"
#include "simulator/verdict.h"

namespace ballast::simulator {
namespace {

struct Request {
  uint64_t accesses = 50000;
  unsigned limit_seconds = 30;
  bool verbose = false;
  bool trace = false;
  std::string canary;
};

// A machine that breaks its contract. The judges must notice.
void break_machine(machine::sim::SimMachineBugs& bugs, const std::string& canary) {
  bugs.seal_leaks = canary == "seal";
  bugs.stale_slots = canary == "slot";
  bugs.lost_wakes = canary == "wake";
  bugs.dirty_frames = canary == "frame";
  bugs.arena_flips = canary == "arena";
  bugs.shared_writes = canary == "share";
}

// Nothing that could excuse what the canary does.
void make_honest(Scenario& scenario) {
  for (VmPlan& vm : scenario.vms) {
    vm.swap.failed_reads = vm.swap.bad_slots = 0;
    vm.swap.flipped_bits = vm.swap.torn_writes = vm.swap.lost_writes = 0;
    vm.memory.spurious_wakes = 0;
  }
}

void run_seed(uint64_t seed, const Request& request) {
  Scenario scenario = draw_scenario(seed, request.accesses);
  if (!request.canary.empty()) make_honest(scenario);
  if (request.verbose) fmt::print("{}", describe(scenario));
  std::fflush(stdout);
  begin_judging(seed, request.limit_seconds);
  Simulation simulation(std::move(scenario));
  simulation.world().print_trace(request.trace);
  break_machine(simulation.world().bugs, request.canary);
  const Summary summary = simulation.run();
  fmt::print(
      "seed {}: good, hash {:016x}, {} accesses, {} verified, {} zips, {} out, {} in, {} "
      "ballooned, {} joins, {} breaks, "
      "{} + {} daemon ends, {} VM ends, {} refused, {} frozen\n",
      seed, summary.trace_hash, summary.accesses, summary.verified_pages, summary.zips,
      summary.swap_outs, summary.swap_ins, summary.ballooned_pages, summary.share_joins,
      summary.share_breaks, summary.daemon_deaths, summary.daemon_restarts, summary.vm_deaths,
      summary.refused_vms, summary.frozen_vms);
}

// Each seed in its own process: one failure does not hide the others.
Verdict run_apart(uint64_t seed, const Request& request) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    if (!request.verbose && std::freopen("/dev/null", "w", stdout) == nullptr) _exit(1);
    run_seed(seed, request);
    std::fflush(stdout);
    _exit(0);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)) {
    return Verdict::kCrash;
  }
  const int code = WEXITSTATUS(status);
  return code <= static_cast<int>(Verdict::kOverBudget) ? static_cast<Verdict>(code)
                                                        : Verdict::kCrash;
}

int run_many(uint64_t from, uint64_t to, const Request& request) {
  Verdict first = Verdict::kGood;
  std::string failed;
  for (uint64_t seed = from; seed <= to; ++seed) {
    const Verdict verdict = run_apart(seed, request);
    if (verdict == Verdict::kGood) continue;
    failed += fmt::format(" {} ({})", seed, name_of(verdict));
    if (first == Verdict::kGood) first = verdict;
  }
  fmt::print("{} seeds, {}{}\n", to - from + 1, failed.empty() ? "all good" : "failed:", failed);
  return static_cast<int>(first);
}

}  // namespace
}  // namespace ballast::simulator

int main(int argc, char** argv) {
  using namespace ballast::simulator;
  CLI::App app{
      "ballast-sim: Ballast's engine on a simulated machine, judged by an oracle.\n"
      "Exit codes: 0 good, 1 crash or failed check, 2 wrong data, 3 no progress, 4 over budget."};
  Request request;
  uint64_t seed = 1;
  uint64_t count = 0;
  std::string range;
  DemoRequest demo;
  bool run_the_demo = false;
  fluid::PolicyRequest policy;
  bool compare_policies = false;
  std::string json_file;
  app.add_option("--seed", seed, "the seed to run (or to start from)");
  app.add_option("--count", count, "run so many seeds, each in a process");
  app.add_option("--seeds", range, "run FROM..TO");
  app.add_option("--accesses", request.accesses, "guest accesses per seed")
      ->check(CLI::Range(1000, 100000000));
  app.add_option("--limit", request.limit_seconds, "seconds of real time per seed");
  app.add_flag("--verbose", request.verbose, "print the options drawn from the seed");
  app.add_flag("--trace", request.trace, "print every step of the machine");
  app.add_option("--canary", request.canary, "break the machine on purpose; judges must notice")
      ->check(CLI::IsMember({"seal", "slot", "wake", "frame", "arena", "share"}));
  app.add_flag("--demo", run_the_demo, "four VMs of 256 MB on 512 MB, in real time");
  app.add_option("--seconds", demo.seconds, "how long the demo runs")->check(CLI::Range(1, 86400));
  app.add_option("--json", json_file,
                 "write the demo's summary or the comparison there; with --policy, '-' is stdout");
  app.add_option("--kill-daemon-every", demo.kill_daemon_every_seconds,
                 "kill the simulated daemon every S seconds");
  app.add_flag("--policy", compare_policies,
               "compare Ballast's policy and other programs' rules on the same demand");
  app.add_option("--scenario", policy.scenario, "with --policy: only this one");
  app.add_option("--rule", policy.rule, "with --policy: only this one");
  CLI11_PARSE(app, argc, argv);

  if (run_the_demo) {
    demo.json_file = json_file;
    return run_demo(demo);
  }
  if (compare_policies) {
    policy.seed = seed;
    policy.json_file = json_file;
    return fluid::compare_rules(policy);
  }
  if (!range.empty()) {
    uint64_t from = 0;
    uint64_t to = 0;
    if (std::sscanf(range.c_str(), "%lu..%lu", &from, &to) != 2 || from > to) {
      fmt::print(stderr, "--seeds '{}' is refused: FROM..TO with FROM <= TO is needed\n", range);
      return 64;
    }
    return run_many(from, to, request);
  }
  if (count > 0) return run_many(seed, seed + count - 1, request);
  request.verbose = true;
  run_seed(seed, request);
  return 0;
}
