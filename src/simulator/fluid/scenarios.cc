#include "simulator/fluid/scenarios.h"

#include <fmt/format.h>

#include "base/random.h"

namespace ballast::simulator::fluid {

namespace {

// Up to `permille` more or less, so that a seed shows what hangs on the exact numbers.
double jitter(Random& random, double value, uint32_t permille = 50) {
  return value * (1 + (static_cast<double>(random.below(2 * permille + 1)) - permille) / 1000);
}

VmPlan vm(std::string name, Bytes configured, std::vector<DemandPoint> demand) {
  VmPlan plan;
  plan.name = std::move(name);
  plan.configured = configured;
  plan.overhead = 4 * kMb + configured * 0.004;
  plan.demand = Demand(std::move(demand));
  plan.guest_swap = configured / 4;
  return plan;
}

// An idle VM that once used more than now, and keeps a page cache: a full host full of nothing.
VmPlan idle_vm(Random& random, size_t index, Bytes configured) {
  VmPlan plan =
      vm(fmt::format("idle{}", index), configured,
         {{0, jitter(random, configured * 0.18), 0.1, jitter(random, configured * 0.09)}});
  plan.touched = jitter(random, configured * 0.22);
  return plan;
}

HostPlan full_host(const char* name, const char* story, uint64_t seed) {
  Random random(seed);
  HostPlan host;
  host.name = name;
  host.story = story;
  host.seed = seed;
  host.memory = 16 * kGb;
  for (size_t i = 1; i <= 7; ++i) host.vms.push_back(idle_vm(random, i, 4 * kGb));
  return host;
}

HostPlan step(uint64_t seed) {
  HostPlan host = full_host("step", "idle VMs fill the host; one VM needs 1 GB more at once", seed);
  host.vms.push_back(vm("web", 4 * kGb,
                        {{0, 1 * kGb, 0.5, 0.1 * kGb},
                         {60, 1 * kGb, 0.5, 0.1 * kGb},
                         {60, 2 * kGb, 0.75, 0.1 * kGb}}));
  host.vms.back().touched = 0;
  host.steps = {{7, 60}};
  host.seconds = 300;
  return host;
}

HostPlan ramp(uint64_t seed) {
  HostPlan host =
      full_host("ramp", "idle VMs fill the host; one VM grows by 2.5 GB in five minutes", seed);
  host.vms.push_back(vm("web", 4 * kGb,
                        {{0, 1 * kGb, 0.6, 0.1 * kGb},
                         {30, 1 * kGb, 0.6, 0.1 * kGb},
                         {330, 3.5 * kGb, 0.8, 0.1 * kGb}}));
  host.steps = {{7, 330}};
  host.seconds = 450;
  return host;
}

HostPlan boot_storm(uint64_t seed) {
  Random random(seed);
  HostPlan host;
  host.name = "boot-storm";
  host.story = "8 VMs of 2 GB start on 8 GB and zero all their memory; drivers come 30 s later";
  host.seed = seed;
  host.memory = 8 * kGb;
  host.seconds = 300;
  for (size_t i = 0; i < 8; ++i) {
    const Bytes used = jitter(random, 0.7 * kGb, 100);
    const double at = 1 + static_cast<double>(i) * 0.5;
    VmPlan plan = vm(fmt::format("vm{}", i + 1), 2 * kGb,
                     {{0, 0.3 * kGb, 0.9, 0},
                      {at + 10, 0.4 * kGb, 0.9, 0.1 * kGb},
                      {at + 60, used, 0.5, 0.2 * kGb},
                      {at + 120, used, 0.2, 0.2 * kGb}});
    plan.boots_at = at;
    plan.boot_zeroes = 2 * kGb;
    plan.driver.shows_after = 30;
    host.vms.push_back(plan);
    host.steps.push_back({i, at});
  }
  return host;
}

HostPlan burst(uint64_t seed) {
  HostPlan host = full_host("burst", "one VM needs 4 GB more for a minute, twice", seed);
  const DemandPoint rest{0, 1 * kGb, 0.5, 0.1 * kGb};
  const DemandPoint peak{0, 5 * kGb, 0.8, 0.1 * kGb};
  const auto at = [](double seconds, DemandPoint point) {
    point.at = seconds;
    return point;
  };
  host.vms.push_back(vm("build", 8 * kGb,
                        {at(0, rest), at(60, rest), at(60, peak), at(120, peak), at(120, rest),
                         at(300, rest), at(300, peak), at(360, peak), at(360, rest)}));
  host.steps = {{7, 60}, {7, 300}};
  host.seconds = 480;
  return host;
}

// What the idle-memory tax is for.
HostPlan hoarders(uint64_t seed) {
  Random random(seed);
  HostPlan host;
  host.name = "hoarders";
  host.story = "6 VMs sit on memory in use that they never touch; 2 active ones want 4 GB each";
  host.seed = seed;
  host.memory = 16 * kGb;
  host.seconds = 600;
  for (size_t i = 1; i <= 6; ++i) {
    host.vms.push_back(vm(fmt::format("hoard{}", i), 4 * kGb,
                          {{0, jitter(random, 2 * kGb), 0.03, jitter(random, 0.3 * kGb)}}));
  }
  for (size_t i = 1; i <= 2; ++i) {
    const double at = 30 + 60 * static_cast<double>(i);
    host.vms.push_back(
        vm(fmt::format("busy{}", i), 6 * kGb,
           {{0, 0.7 * kGb, 0.8, 0}, {at, 0.7 * kGb, 0.8, 0}, {at + 20, 4 * kGb, 0.9, 0.1 * kGb}}));
    host.steps.push_back({5 + i, at + 20});
  }
  return host;
}

HostPlan contention(uint64_t seed) {
  Random random(seed);
  HostPlan host;
  host.name = "contention";
  host.story = "4 busy VMs want 6 GB each of 16 GB: shares high, normal, normal, low";
  host.seed = seed;
  host.memory = 16 * kGb;
  host.seconds = 600;
  constexpr ShareLevel kLevels[] = {ShareLevel::kHigh, ShareLevel::kNormal, ShareLevel::kNormal,
                                    ShareLevel::kLow};
  for (size_t i = 0; i < 4; ++i) {
    const double at = jitter(random, 60);
    VmPlan plan = vm(fmt::format("busy{}", i + 1), 8 * kGb,
                     {{0, 2 * kGb, 0.9, 0}, {at, 2 * kGb, 0.9, 0}, {at + 60, 6 * kGb, 0.7, 0}});
    plan.allocation.shares.level = kLevels[i];
    host.vms.push_back(plan);
  }
  return host;
}

// After figure 8 of the OSDI 2002 paper: five servers on 1 GB, promised 1472 MB; they boot together
// (Windows zeroes all memory before its balloon driver is there); the last idles, then gets a long
// query.
HostPlan five_servers(uint64_t seed) {
  struct Server {
    const char* name;
    double megabytes;
    std::vector<DemandPoint> demand;  // in MB
  };
  const std::vector<Server> servers = {
      {"mail",
       256,
       {{0, 90, 0.9, 0}, {60, 170, 0.7, 20}, {300, 190, 0.6, 30}, {600, 160, 0.6, 30}}},
      {"mail-load", 256, {{0, 80, 0.9, 0}, {60, 120, 0.5, 20}, {400, 130, 0.4, 20}}},
      {"terminal",
       320,
       {{0, 90, 0.9, 0}, {80, 200, 0.6, 30}, {350, 230, 0.6, 30}, {600, 180, 0.5, 30}}},
      {"terminal-load", 320, {{0, 80, 0.9, 0}, {60, 130, 0.4, 20}, {500, 140, 0.4, 20}}},
      {"database",
       320,
       {{0, 100, 0.9, 0},
        {60, 180, 0.3, 20},
        {120, 180, 0.02, 20},
        {480, 180, 0.02, 20},
        {480, 270, 0.9, 30},
        {600, 270, 0.9, 30}}},
  };
  Random random(seed);
  HostPlan host;
  host.name = "five-servers";
  host.story =
      "five servers of 1472 MB on 1 GB boot at once; the database idles, then gets a query";
  host.seed = seed;
  host.memory = 1 * kGb;
  host.seconds = 720;
  for (const Server& server : servers) {
    std::vector<DemandPoint> demand = server.demand;
    for (DemandPoint& point : demand) {
      point.used = jitter(random, point.used) * kMb;
      point.cache *= kMb;
    }
    VmPlan plan = vm(server.name, server.megabytes * kMb, std::move(demand));
    plan.overhead = 16 * kMb;
    plan.allocation.min_bytes = to_count(server.megabytes * kMb / 2);
    plan.boots_at = 1;
    plan.boot_zeroes = plan.configured;
    plan.driver.shows_after = 40;
    host.vms.push_back(std::move(plan));
  }
  host.steps = {{4, 480}};
  return host;
}

HostPlan misfits(uint64_t seed) {
  HostPlan host = full_host(
      "misfits", "as step, with balloons that are stuck, slow, deaf, lying or missing", seed);
  host.vms.push_back(vm("web", 4 * kGb,
                        {{0, 1 * kGb, 0.5, 0.1 * kGb},
                         {60, 1 * kGb, 0.5, 0.1 * kGb},
                         {60, 2.5 * kGb, 0.8, 0.1 * kGb}}));
  host.vms[0].driver.stuck_at = 100 * kMb;
  host.vms[1].driver.stuck_at = 0;
  host.vms[2].driver.kind = DriverPlan::Kind::kSlow;
  host.vms[3].driver.kind = DriverPlan::Kind::kLiar;
  host.vms[4].driver.kind = DriverPlan::Kind::kNone;
  host.vms[5].driver.deaf_from = 50;
  host.vms[5].driver.deaf_until = 150;
  host.steps = {{7, 60}};
  host.seconds = 300;
  return host;
}

constexpr ScenarioInfo kScenarios[] = {
    {"step", step},
    {"ramp", ramp},
    {"boot-storm", boot_storm},
    {"burst", burst},
    {"hoarders", hoarders},
    {"contention", contention},
    {"five-servers", five_servers},
    {"misfits", misfits},
    {"random", random_host},
};

}  // namespace

std::span<const ScenarioInfo> all_scenarios() { return kScenarios; }

}  // namespace ballast::simulator::fluid
