#include <fmt/format.h>

#include <algorithm>

#include "base/random.h"
#include "engine/policy/host_state.h"
#include "simulator/fluid/scenarios.h"

namespace ballast::simulator::fluid {

namespace {

constexpr double kSeconds = 500;
// From here on nothing changes any more, so that tests can see whether the rule settles.
constexpr double kCalmFrom = 200;

double fraction(Random& random) { return random.below(1001) / 1000.0; }
double within(Random& random, double low, double high) {
  return low + (high - low) * fraction(random);
}
Bytes whole_mb(Bytes bytes) { return static_cast<double>(to_count(bytes / kMb)) * kMb; }

DemandPoint draw_point(Random& random, double at, Bytes configured) {
  // In most moments VMs idle; some use all they have.
  const double used = random.chance(200) ? within(random, 0.5, 0.9) : within(random, 0.05, 0.5);
  return {at, configured * used, within(random, 0.02, 0.95),
          configured * (0.95 - used) * fraction(random) * 0.5};
}

std::vector<DemandPoint> draw_demand(Random& random, double from, Bytes configured) {
  std::vector<DemandPoint> points = {draw_point(random, 0, configured)};
  double at = from + within(random, 5, 60);
  while (at < kCalmFrom) {
    DemandPoint held = points.back();
    held.at = at;
    points.push_back(held);
    // A jump, or a ramp.
    const double takes = random.chance(500) ? 0 : within(random, 5, kCalmFrom - at + 5);
    at = std::min(kCalmFrom, at + takes);
    points.push_back(draw_point(random, at, configured));
    at += within(random, 5, 80);
  }
  return points;
}

DriverPlan draw_driver(Random& random, Bytes configured) {
  DriverPlan driver;
  switch (random.below(10)) {
    case 0:
      driver.kind = DriverPlan::Kind::kNone;
      break;
    case 1:
      driver.kind = DriverPlan::Kind::kSlow;
      break;
    case 2:
      driver.kind = DriverPlan::Kind::kLiar;
      break;
    case 3:
      driver.stuck_at = configured * within(random, 0, 0.5);
      break;
    case 4:
      driver.deaf_from = within(random, 0, kCalmFrom);
      driver.deaf_until = driver.deaf_from + within(random, 5, 60);
      break;
    default:
      break;
  }
  return driver;
}

VmPlan draw_vm(Random& random, size_t index, bool boot_storm) {
  VmPlan plan;
  plan.name = fmt::format("vm{}", index);
  plan.configured = whole_mb(within(random, 256, random.chance(300) ? 8192 : 2048) * kMb);
  plan.overhead = 4 * kMb + plan.configured * 0.004;
  plan.guest_swap = random.chance(500) ? plan.configured / 4 : 0;
  plan.reports_free = random.chance(200);
  plan.driver = draw_driver(random, plan.configured);
  if (boot_storm || random.chance(200)) {
    plan.boots_at = boot_storm ? within(random, 0.1, 5) : within(random, 0.1, 100);
    plan.boot_zeroes = random.chance(600) ? plan.configured * 0.99 : 0;
    plan.driver.shows_after = within(random, 2, 60);
  }
  plan.demand = Demand(draw_demand(random, plan.boots_at, plan.configured));
  Allocation& allocation = plan.allocation;
  if (random.chance(400)) {
    allocation.min_bytes = to_count(whole_mb(plan.configured * within(random, 0.05, 0.5)));
  }
  if (random.chance(250)) {
    allocation.limit_bytes = std::max(
        allocation.min_bytes, to_count(whole_mb(plan.configured * within(random, 0.4, 0.95))));
  }
  constexpr ShareLevel kLevels[] = {ShareLevel::kLow, ShareLevel::kNormal, ShareLevel::kHigh};
  allocation.shares.level = kLevels[random.below(3)];
  return plan;
}

}  // namespace

HostPlan random_host(uint64_t seed) {
  Random random(seed);
  HostPlan host;
  host.name = "random";
  host.story = fmt::format("whatever seed {} drew", seed);
  host.seed = seed;
  host.seconds = kSeconds;
  host.compressible = within(random, 0, 0.8);
  const size_t count = 2 + random.below(11);
  const bool boot_storm = random.chance(250);
  Bytes promised = 0;
  Bytes guaranteed = 0;
  for (size_t i = 0; i < count; ++i) {
    host.vms.push_back(draw_vm(random, i + 1, boot_storm));
    promised += host.vms.back().configured;
    guaranteed += to_bytes(host.vms.back().allocation.min_bytes) + host.vms.back().overhead;
  }
  host.memory = whole_mb(promised * within(random, 0.35, 0.9));
  const auto admissible = [&] {
    const Bytes min_free = to_bytes(engine::min_free_bytes(to_count(host.memory), 0));
    return guaranteed + min_free * 1.1 <= host.memory;
  };
  while (!admissible()) host.memory = whole_mb(host.memory * 1.05 + kMb);
  // What is there at the start must fit; the rest of the host is full of used and freed memory.
  const Bytes kept = to_bytes(engine::min_free_bytes(to_count(host.memory), 0));
  Bytes start = 0;
  for (const VmPlan& vm : host.vms) {
    if (vm.boots_at > 0) continue;
    const DemandPoint first = vm.demand.at(0);
    start += first.used + first.cache + vm.overhead;
  }
  for (VmPlan& vm : host.vms) {
    if (vm.boots_at > 0) continue;
    const DemandPoint first = vm.demand.at(0);
    // Too much for the memory: it boots a little later instead of being there.
    if (start > host.memory - kept) {
      start -= first.used + first.cache + vm.overhead;
      vm.boots_at = within(random, 0.1, 3);
      continue;
    }
    const Bytes most =
        std::min(to_bytes(max_bytes(vm.allocation, to_count(vm.configured))), vm.configured * 0.97);
    vm.touched = std::clamp(most - first.used - first.cache, 0.0,
                            std::max(0.0, (host.memory - kept - start) * fraction(random)));
    start += vm.touched;
  }
  return host;
}

}  // namespace ballast::simulator::fluid
