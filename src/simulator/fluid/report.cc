#include "simulator/fluid/report.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "simulator/fluid/measures.h"
#include "simulator/fluid/rule.h"
#include "simulator/fluid/scenarios.h"

namespace ballast::simulator::fluid {

namespace {

Figures run(const HostPlan& plan, const RuleInfo& info) {
  const std::unique_ptr<Rule> rule = info.make(plan.options);
  World world(plan, *rule);
  Measures measures(world);
  while (world.step()) measures.observe();
  return measures.figures();
}

void print_head(const HostPlan& plan) {
  Bytes promised = 0;
  for (const VmPlan& vm : plan.vms) promised += vm.configured;
  fmt::print("\n{}: {}\n  {} VMs, {:.1f} GB promised on {:.1f} GB, {:.0f} s, seed {}\n", plan.name,
             plan.story, plan.vms.size(), promised / kGb, plan.memory / kGb, plan.seconds,
             plan.seed);
  fmt::print("  {:<10}{:>9}{:>9}{:>9}{:>10}{:>9}{:>8}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>8}\n", "rule",
             "step s", "stall s", "in guest", "over GBs", "peak MB", "unfair", "zip MB", "swap MB",
             "back MB", "guest MB", "free MB", "low free", "<min m");
}

void print_row(const RuleInfo& rule, const Figures& figures) {
  std::string step = "-";
  if (figures.steps_missed > 0) {
    step = fmt::format("{} of {}!", figures.steps_missed, figures.steps);
  } else if (figures.steps > 0) {
    step = fmt::format("{:.1f}", figures.worst_step);
  }
  const std::string unfair =
      figures.contended > 0 ? fmt::format("{:.0f} %", figures.unfairness * 100) : "-";
  fmt::print(
      "  {:<10}{:>9}{:>9.1f}{:>9.1f}{:>10.1f}{:>9.0f}{:>8}{:>9.0f}{:>9.0f}{:>9.0f}{:>9.0f}{:>9.0f}"
      "{:>9.0f}{:>8.1f}\n",
      rule.name, step, figures.host_stall, figures.guest_stall, figures.overshoot,
      figures.overshoot_peak / kMb, unfair, figures.compressed / kMb, figures.swapped_out / kMb,
      figures.paged_in / kMb, figures.guest_swapped / kMb, figures.mean_free / kMb,
      figures.lowest_free / kMb, figures.below_min);
}

nlohmann::json to_json(const HostPlan& plan, const RuleInfo& rule, const Figures& figures) {
  return {{"scenario", plan.name},
          {"rule", rule.name},
          {"seed", plan.seed},
          {"steps", figures.steps},
          {"steps_missed", figures.steps_missed},
          {"worst_step_s", figures.worst_step},
          {"host_stall_s", figures.host_stall},
          {"guest_stall_s", figures.guest_stall},
          {"overshoot_gb_s", figures.overshoot},
          {"overshoot_peak_bytes", to_count(figures.overshoot_peak)},
          {"unfairness", figures.unfairness},
          {"contended_s", figures.contended},
          {"compressed_bytes", to_count(figures.compressed)},
          {"swapped_out_bytes", to_count(figures.swapped_out)},
          {"paged_in_bytes", to_count(figures.paged_in)},
          {"guest_swapped_bytes", to_count(figures.guest_swapped)},
          {"mean_free_bytes", to_count(figures.mean_free)},
          {"lowest_free_bytes", to_count(figures.lowest_free)},
          {"below_min_minutes", figures.below_min},
          {"blocked_s", figures.blocked}};
}

void print_legend() {
  fmt::print(
      "Rules on the same recorded demand; amounts, not pages, in steps of 0.1 s. Peers have the\n"
      "host's kernel swap instead of a pager.\n"
      "  step s    until 95 % of a step of demand is there, the worst (N of M!: never)\n"
      "  stall s   guests' waits for the host; in guest: on their own swap, pressed by a balloon\n"
      "  over      free beyond minFree while VMs lack memory or cache: taken for nothing\n"
      "  unfair    active VMs' mean distance from their part by shares while they contend\n"
      "  zip, swap, back, guest   compressed, written to the host's swap, brought back, swapped "
      "by\n"
      "            guests themselves\n"
      "  free MB   on average: the price of being prepared\n"
      "  <min m    minutes of VMs that waited while holding less than their min\n");
}

template <typename Info>
bool known(const char* what, const std::string& name, std::span<const Info> all) {
  if (name.empty() || std::ranges::count(all, name, &Info::name) > 0) return true;
  std::string names;
  for (const Info& info : all) names += fmt::format("{}{}", names.empty() ? "" : ", ", info.name);
  fmt::print(stderr, "--{} '{}' is refused: known are {}\n", what, name, names);
  return false;
}

}  // namespace

int compare_rules(const PolicyRequest& request) {
  if (!known("scenario", request.scenario, all_scenarios()) ||
      !known("rule", request.rule, all_rules())) {
    return 64;
  }
  const bool table = request.json_file != "-";
  nlohmann::json results = nlohmann::json::array();
  if (table) print_legend();
  for (const ScenarioInfo& scenario : all_scenarios()) {
    if (!request.scenario.empty() && scenario.name != request.scenario) continue;
    const HostPlan plan = scenario.make(request.seed);
    if (table) print_head(plan);
    for (const RuleInfo& rule : all_rules()) {
      if (!request.rule.empty() && rule.name != request.rule) continue;
      const Figures figures = run(plan, rule);
      results.push_back(to_json(plan, rule, figures));
      if (table) print_row(rule, figures);
    }
  }
  if (request.json_file.empty()) return 0;
  const std::string text = nlohmann::json{{"results", std::move(results)}}.dump(1) + "\n";
  if (!table) {
    fmt::print("{}", text);
    return 0;
  }
  std::ofstream file(request.json_file);
  file << text;
  file.close();
  if (!file) {
    fmt::print(stderr, "cannot write '{}': is the directory there and writable?\n",
               request.json_file);
    return 1;
  }
  return 0;
}

}  // namespace ballast::simulator::fluid
