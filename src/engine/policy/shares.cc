#include "engine/policy/shares.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <tuple>

#include "base/check.h"
#include "base/units.h"

namespace ballast::engine {
namespace {

// What holding `size` costs; in the unit of size and active, whichever that is. Idle memory costs
// 1/(1 − rate) times what active memory costs.
double cost(double size, double active, const Tax& tax) {
  if (size <= active) return size;
  const double rate = tax.variable ? tax.rate * (1 - active / size) : tax.rate;
  return active + (size - active) / (1 - rate);
}

// Pages as real numbers. There are at most 2^52, so that whole ones are exact.
struct Vm {
  double shares;
  double active;
  double min;
  double max;
  double cost_of_max;
};

Vm vm_of(const Claim& claim, const Tax& tax) {
  BALLAST_CHECK_THAT(claim.shares > 0 && std::isfinite(claim.shares), "{} shares", claim.shares);
  BALLAST_CHECK_THAT(claim.min_bytes <= claim.max_bytes, "min {} max {}", claim.min_bytes,
                     claim.max_bytes);
  const uint64_t partial = claim.min_bytes % kPageBytes != 0 ? 1 : 0;
  const uint64_t min = pages_floor(claim.min_bytes) + partial;
  Vm vm{.shares = claim.shares,
        .active = static_cast<double>(claim.active_bytes) / kPageBytes,
        .min = static_cast<double>(min),
        .max = static_cast<double>(std::max(min, pages_floor(claim.max_bytes))),
        .cost_of_max = 0};
  vm.cost_of_max = cost(vm.max, vm.active, tax);
  return vm;
}

// Pages that `vm` holds when a share buys the cost `level`: the inverse of cost(), within min and
// max. Every operation rounds monotonically, so that the result never falls when level or shares
// rise: the promises about single pages stand on that.
uint64_t pages_at(const Vm& vm, double level, const Tax& tax) {
  const double spend = vm.shares * level;
  double size = spend;
  if (spend >= vm.cost_of_max) {
    size = vm.max;  // so that an infinite level is one, and rounding never hides the last page
  } else if (spend > vm.active) {
    const double for_idle = spend - vm.active;
    size = vm.active + for_idle * (1 - tax.rate);
    if (tax.variable) {
      // size² − (active + for_idle · (1 − τ)) · size − for_idle · τ · active = 0
      size = (size + std::sqrt(size * size + 4 * for_idle * tax.rate * vm.active)) / 2;
    }
  }
  return static_cast<uint64_t>(std::clamp(size, vm.min, vm.max));
}

// Stops counting above `enough`, so that no sum overflows.
uint64_t total_at(std::span<const Vm> vms, double level, const Tax& tax, uint64_t enough) {
  uint64_t total = 0;
  for (const Vm& vm : vms) {
    total += pages_at(vm, level, tax);
    if (total > enough) break;
  }
  return total;
}

// The pages that all hold at `low` fit into the memory; at `high`, the next level, they do not.
// Both are the same where mins or maxes alone decide.
struct Levels {
  double low;
  double high;
};

Levels equilibrium(std::span<const Vm> vms, const Tax& tax, uint64_t memory_pages) {
  constexpr double kEverybodyHasHisMin = 0;
  constexpr double kEverybodyHasHisMax = std::numeric_limits<double>::infinity();
  if (total_at(vms, kEverybodyHasHisMax, tax, memory_pages) <= memory_pages) {
    return {kEverybodyHasHisMax, kEverybodyHasHisMax};
  }
  if (total_at(vms, kEverybodyHasHisMin, tax, memory_pages) > memory_pages) {
    return {kEverybodyHasHisMin, kEverybodyHasHisMin};
  }
  // Positive doubles are ordered as their bits are: halving those reaches neighbours in 63 steps,
  // however far apart the shares are.
  auto low_bits = std::bit_cast<uint64_t>(kEverybodyHasHisMin);
  auto high_bits = std::bit_cast<uint64_t>(kEverybodyHasHisMax);
  while (high_bits - low_bits > 1) {
    const uint64_t middle = low_bits + (high_bits - low_bits) / 2;
    const uint64_t total = total_at(vms, std::bit_cast<double>(middle), tax, memory_pages);
    (total <= memory_pages ? low_bits : high_bits) = middle;
    if (total == memory_pages) break;
  }
  return {std::bit_cast<double>(low_bits), std::bit_cast<double>(high_bits)};
}

// Pages that several could have at the same price go to some of them.
void hand_out_rest(std::span<const Vm> vms, double high, const Tax& tax, uint64_t rest,
                   std::vector<uint64_t>& pages) {
  std::vector<size_t> takers;
  for (size_t i = 0; i < vms.size(); ++i) {
    if (pages_at(vms[i], high, tax) > pages[i]) takers.push_back(i);
  }
  std::sort(takers.begin(), takers.end(), [&](size_t a, size_t b) {
    const auto key = [&](size_t i) {
      return std::tuple(-vms[i].shares, vms[i].active, vms[i].min, vms[i].max, i);
    };
    return key(a) < key(b);
  });
  for (const size_t i : takers) {
    const uint64_t given = std::min(rest, pages_at(vms[i], high, tax) - pages[i]);
    pages[i] += given;
    rest -= given;
  }
}

}  // namespace

double price(const Claim& claim, double bytes, const Tax& tax) {
  BALLAST_CHECK(bytes > 0);
  return claim.shares / cost(bytes, static_cast<double>(claim.active_bytes), tax);
}

std::vector<uint64_t> solve_targets(uint64_t memory_bytes, std::span<const Claim> claims,
                                    const Tax& tax) {
  BALLAST_CHECK_THAT(tax.rate >= 0 && tax.rate < 1, "tax rate {}", tax.rate);
  std::vector<Vm> vms;
  vms.reserve(claims.size());
  for (const Claim& claim : claims) vms.push_back(vm_of(claim, tax));

  const uint64_t memory_pages = pages_floor(memory_bytes);
  const Levels levels = equilibrium(vms, tax, memory_pages);
  std::vector<uint64_t> targets;
  targets.reserve(vms.size());
  uint64_t used = 0;
  for (const Vm& vm : vms) {
    targets.push_back(pages_at(vm, levels.low, tax));
    used += targets.back();
  }
  if (used < memory_pages) hand_out_rest(vms, levels.high, tax, memory_pages - used, targets);
  for (uint64_t& target : targets) target = pages_to_bytes(target);
  return targets;
}

}  // namespace ballast::engine
