#include "engine/policy/planner.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace ballast::engine {

namespace {

// Ballooning starts when free memory, falling as it does, would be below the soft line this far
// ahead: QEMU's and the driver's reaction take about a second, the rest is for delivering.
constexpr Nanoseconds kLookAhead = 5 * kSecond;
// Over which changes of free memory are smoothed.
constexpr Nanoseconds kSlopeTime = 2 * kSecond;
// How long a VM above its limit is left to its balloon.
constexpr Nanoseconds kLimitPatience = 10 * kSecond;

uint64_t used_bytes(const VmSituation& vm) { return vm.resident_bytes + vm.paged_bytes; }

uint64_t balloon_size(const VmSituation& vm) {
  if (vm.balloon.link != machine::BalloonView::Link::kReady) return 0;
  return vm.configured_bytes - std::min(vm.configured_bytes, vm.balloon.actual_bytes);
}

// What the guest would hold if there were no other: what it uses, what its balloon keeps from it,
// and room to grow. Memory that it never asked for is not set aside for it.
uint64_t wanted_by(const VmSituation& vm) {
  const uint64_t used = used_bytes(vm);
  const uint64_t most = max_bytes(vm.allocation, vm.configured_bytes);
  const uint64_t balloon = balloon_size(vm);
  // What somebody else keeps from it, it cannot have whatever we grant.
  if (vm.balloon_is_foreign) {
    return std::min({most, vm.configured_bytes - balloon, used + headroom_bytes(used)});
  }
  return std::min(most, used + balloon + headroom_bytes(used));
}

Bound bound_of(const VmSituation& vm, const Claim& claim, uint64_t target) {
  if (target + kPageBytes > claim.max_bytes) {  // targets are whole pages
    const uint64_t most = max_bytes(vm.allocation, vm.configured_bytes);
    if (wanted_by(vm) < most) return Bound::kWant;
    return most < vm.configured_bytes ? Bound::kLimit : Bound::kMax;
  }
  return target <= claim.min_bytes ? Bound::kMin : Bound::kShares;
}

}  // namespace

std::string_view name_of(Bound bound) {
  constexpr std::string_view kNames[] = {"shares", "min", "want", "limit", "max"};
  return kNames[static_cast<size_t>(bound)];
}

uint64_t headroom_bytes(uint64_t used_bytes) {
  return std::clamp(used_bytes / 8, uint64_t{4} << 20, uint64_t{256} << 20);
}

std::vector<VmTarget> solve(uint64_t divided_bytes, std::span<const VmSituation> vms,
                            const Options& options) {
  std::vector<Claim> claims;
  std::vector<VmTarget> result(vms.size());
  for (size_t i = 0; i < vms.size(); ++i) {
    const VmSituation& vm = vms[i];
    result[i].shares = share_count(vm.allocation.shares, vm.configured_bytes);
    result[i].want_bytes = wanted_by(vm) + vm.overhead_bytes;
    // A reservation that is not used is lent out (and given back at the VM's next want).
    const uint64_t min =
        std::min(vm.allocation.min_bytes + vm.overhead_bytes, result[i].want_bytes);
    claims.push_back({.shares = static_cast<double>(std::max<uint64_t>(result[i].shares, 1)),
                      .active_bytes = std::min(vm.active_bytes, used_bytes(vm)) + vm.overhead_bytes,
                      .min_bytes = min,
                      .max_bytes = result[i].want_bytes});
  }
  const Tax tax{.rate = options.idle_tax_percent / 100.0,
                .variable = options.idle_tax_type == TaxType::kVariable};
  const auto targets = solve_targets(divided_bytes, claims, tax);
  for (size_t i = 0; i < vms.size(); ++i) {
    result[i].bound = bound_of(vms[i], claims[i], targets[i]);
    result[i].target_bytes =
        std::max(targets[i], vms[i].allocation.min_bytes + vms[i].overhead_bytes);
  }
  return result;
}

void Planner::forecast(const HostSituation& host) {
  if (last_at_ != 0 && host.now > last_at_) {
    const double seconds = static_cast<double>(host.now - last_at_) / kSecond;
    const double change = static_cast<double>(host.free_bytes) - static_cast<double>(last_free_);
    const double weight = 1 - std::exp(-seconds * kSecond / kSlopeTime);
    slope_ += weight * (change / seconds - slope_);
  }
  last_at_ = host.now;
  last_free_ = host.free_bytes;
  const double ahead =
      static_cast<double>(host.free_bytes) + slope_ * static_cast<double>(kLookAhead) / kSecond;
  expects_shortage_ = ahead < static_cast<double>(host.thresholds.enter_of(HostState::kSoft));
}

bool Planner::is_due(const HostSituation& host, std::span<const VmSituation> vms) {
  bool changed = known_.size() != vms.size();
  for (const VmSituation& vm : vms) {
    const auto [known, is_new] = known_.try_emplace(vm.name);
    changed |= is_new || known->second.allocation != vm.allocation || balloon_size(vm) > 0;
    known->second.allocation = vm.allocation;
  }
  if (known_.size() != vms.size()) {
    std::set<std::string_view> present;
    for (const VmSituation& vm : vms) present.insert(vm.name);
    std::erase_if(known_, [&](const auto& known) { return !present.contains(known.first); });
  }
  const Nanoseconds period = options_.balance_period_s * kSecond;
  return changed || solved_at_ == 0 || host.state != solved_in_ || host.state >= HostState::kSoft ||
         expects_shortage_ || host.now - solved_at_ >= period;
}

std::span<const VmDecision> Planner::plan(const HostSituation& host,
                                          std::span<const VmSituation> vms) {
  forecast(host);
  if (is_due(host, vms)) {
    const auto targets = solve(host.divided_bytes, vms, options_);
    decisions_.resize(vms.size());
    for (size_t i = 0; i < vms.size(); ++i) decisions_[i].target = targets[i];
    solved_at_ = std::max<Nanoseconds>(host.now, 1);
    solved_in_ = host.state;
  }
  for (size_t i = 0; i < vms.size(); ++i) {
    decide(host, vms[i], known_.at(vms[i].name), decisions_[i]);
  }
  return decisions_;
}

void Planner::decide(const HostSituation& host, const VmSituation& vm, Known& known,
                     VmDecision& decision) const {
  const uint64_t limit = max_bytes(vm.allocation, vm.configured_bytes) + vm.overhead_bytes;
  const bool limited = vm.allocation.limit_bytes < vm.configured_bytes;
  const bool above_limit = limited && vm.consumed_bytes > limit;
  // Also when paging has brought it under its limit: the guest knows better what to give up.
  const bool uses_too_much = limited && used_bytes(vm) > vm.allocation.limit_bytes;
  if (!above_limit) known.above_limit_since = 0;
  if (above_limit && known.above_limit_since == 0) {
    known.above_limit_since = std::max<Nanoseconds>(host.now, 1);
  }

  decision.balloon_max_bytes =
      balloon_max_bytes(vm.allocation, vm.configured_bytes, options_.ctl_max_percent);
  const bool frozen = options_.hard_stops_balloon && host.state >= HostState::kHard;
  const bool grow =
      !frozen && (host.state >= HostState::kSoft || expects_shortage_ || uses_too_much);
  // The guest's memory under its target: what it uses above that goes into the balloon; what the
  // balloon keeps from it below that comes out. A guest that was paged down to its min has nothing
  // left for the balloon: it would take what the min guarantees.
  const uint64_t allowed = decision.target.target_bytes - vm.overhead_bytes;
  const uint64_t used = used_bytes(vm);
  const uint64_t size = balloon_size(vm);
  const bool at_its_min = vm.consumed_bytes <= vm.allocation.min_bytes + vm.overhead_bytes;
  uint64_t wanted = std::min(size, vm.configured_bytes - std::min(vm.configured_bytes, allowed));
  // A VM that gets all it wants (its balloon is part of that) keeps nothing in there, however
  // little of its size it ever used.
  if (decision.target.bound == Bound::kWant && used <= allowed) wanted = 0;
  if (used > allowed) wanted = at_its_min ? size : size + (used - allowed);
  decision.balloon = known.pilot.fly(vm.balloon, host.now,
                                     {.configured_bytes = vm.configured_bytes,
                                      .held_bytes = vm.held_bytes,
                                      .wanted_bytes = wanted,
                                      .max_bytes = decision.balloon_max_bytes,
                                      .grow = grow});

  const uint64_t deliverable = frozen ? 0 : decision.balloon.deliverable_bytes;
  decision.soft_floor_bytes = decision.target.target_bytes + deliverable;
  // Also while it is below: it can be far above before the next look.
  const bool balloon_had_its_time =
      above_limit && host.now - known.above_limit_since > kLimitPatience;
  decision.limit_floor_bytes =
      limited ? limit + (balloon_had_its_time ? 0 : deliverable) : ~uint64_t{0};
}

}  // namespace ballast::engine
