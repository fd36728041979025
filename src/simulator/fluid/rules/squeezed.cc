#include "simulator/fluid/rules/peers.h"

namespace ballast::simulator::fluid {

namespace {

constexpr Nanoseconds kPeriod = 10 * kSecond;  // between two looks when nobody asks
constexpr Nanoseconds kGivenUpAfter = 5 * kSecond;
constexpr uint64_t kSlush = 9 << 20;      // kept free
constexpr uint64_t kTolerance = 4 << 20;  // within it a VM counts as there

uint64_t distance(uint64_t a, uint64_t b) { return a > b ? a - b : b - a; }

}  // namespace

// Who was asked and does not come closer for 5 s is inactive, until it moves again.
void SqueezedRule::watch(Nanoseconds now, std::span<const VmSeen> vms) {
  for (const VmSeen& vm : vms) {
    const uint64_t memory = guest_memory(vm);
    const auto [entry, is_new] = known_.try_emplace(vm.name);
    Known& known = entry->second;
    if (is_new) known = {.asked = memory, .last = memory, .moved_at = now};
    const bool there = distance(memory, known.asked) <= kTolerance;
    if (there || distance(memory, known.asked) < distance(known.last, known.asked)) {
      known.moved_at = now;
      known.inactive = false;
    }
    known.last = memory;
    if (now - known.moved_at > kGivenUpAfter) known.inactive = true;
  }
}

bool SqueezedRule::takes_part(const VmSeen& vm) const {
  return vm.balloon.stats.has_value() && !known_.at(vm.name).inactive;
}

// Xen counts what a VM is allowed, not what it has touched: so does the rule.
void SqueezedRule::aim(const HostSeen& host, std::span<const VmSeen> vms) {
  double range = 0;
  auto fixed = static_cast<double>(kSlush);
  for (const VmSeen& vm : vms) {
    fixed += static_cast<double>(vm.overhead_bytes);
    if (takes_part(vm)) {
      fixed += static_cast<double>(balloon_floor(vm));
      range += static_cast<double>(guest_max(vm) - std::min(guest_max(vm), balloon_floor(vm)));
    } else {
      fixed += static_cast<double>(guest_memory(vm));
    }
  }
  const double surplus = static_cast<double>(host.memory_bytes) - fixed;
  const double fraction = range > 0 ? std::clamp(surplus / range, 0.0, 1.0) : 1;
  for (const VmSeen& vm : vms) {
    const uint64_t least = balloon_floor(vm);
    const uint64_t most = std::max(guest_max(vm), least);
    known_.at(vm.name).goal =
        least + static_cast<uint64_t>(fraction * static_cast<double>(most - least));
  }
}

void SqueezedRule::act(const HostSeen& host, std::span<const VmSeen> vms, std::span<Order> orders) {
  watch(host.now, vms);
  if (host.now >= next_) {
    next_ = host.now + kPeriod;
    aim(host, vms);
  }
  const bool shrinking = std::ranges::any_of(vms, [&](const VmSeen& vm) {
    return takes_part(vm) && guest_memory(vm) > known_.at(vm.name).goal + kTolerance;
  });
  for (size_t i = 0; i < vms.size(); ++i) {
    Known& known = known_.at(vms[i].name);
    if (!takes_part(vms[i]) || known.goal == 0 || known.asked == known.goal) continue;
    if (shrinking && known.goal > guest_memory(vms[i])) continue;  // second phase
    known.asked = known.goal;
    known.moved_at = host.now;
    orders[i].balloon_bytes =
        vms[i].configured_bytes - std::min(vms[i].configured_bytes, known.goal);
  }
}

}  // namespace ballast::simulator::fluid
