#include <cmath>

#include "simulator/fluid/rules/peers.h"

namespace ballast::simulator::fluid {

namespace {

constexpr Nanoseconds kPeriod = 10 * kSecond;
constexpr double kGoal = 0.8;  // of the host's memory
constexpr double kMiB = 1024.0 * 1024;
constexpr double kStepMost = 100 * kMiB;  // per VM and period
constexpr double kIgnored = 10 * kMiB;

struct Machine {
  double now = 0;  // memory that the guest has left
  double min = 0;
  double max = 0;
  double shares = 0;
  double moved = 0;
  bool pressed = false;  // little free memory inside
};

// Divides `bytes` (taken away when negative) among `vms` in proportion to shares, none moving more
// than a step. Returns what could not be placed.
double distribute(std::vector<Machine*>& vms, double bytes) {
  for (bool progress = true; progress && std::abs(bytes) > kMiB;) {
    progress = false;
    double above_min = bytes;
    double shares = 0;
    for (const Machine* vm : vms) {
      above_min += vm->now + vm->moved - vm->min;
      shares += vm->shares;
    }
    for (Machine* vm : vms) {
      const double current = vm->now + vm->moved;
      const double desired =
          std::clamp(vm->min + above_min * vm->shares / shares, vm->min, vm->max);
      const double wish = std::clamp(desired - vm->now, -kStepMost, kStepMost) - vm->moved;
      // Only in the direction that is being divided, and no more than is left of it.
      const double move = bytes > 0 ? std::clamp(wish, 0.0, bytes) : std::clamp(wish, bytes, 0.0);
      if (std::abs(move) < 1 || current + move < 0) continue;
      vm->moved += move;
      bytes -= move;
      progress = true;
      if (std::abs(bytes) <= kMiB) break;
    }
  }
  return bytes;
}

}  // namespace

void ProxmoxRule::act(const HostSeen& host, std::span<const VmSeen> vms, std::span<Order> orders) {
  if (host.now < next_) return;
  next_ = host.now + kPeriod;
  const auto memory = static_cast<double>(host.memory_bytes);
  double goal = memory * kGoal - (memory - static_cast<double>(host.free_bytes));
  if (std::abs(goal) <= kIgnored) return;
  std::vector<Machine> machines;
  for (size_t i = 0; i < vms.size(); ++i) {
    const VmSeen& vm = vms[i];
    if (!vm.balloon.stats) continue;  // its driver does not answer
    const auto floor = static_cast<double>(balloon_floor(vm));
    machines.push_back({
        .now = static_cast<double>(guest_memory(vm)),
        .min = floor,
        .max = static_cast<double>(guest_max(vm)),
        .shares = static_cast<double>(share_count(vm.allocation.shares, vm.configured_bytes)),
        .pressed = static_cast<double>(vm.balloon.stats->free_bytes.value_or(0)) <= floor * 0.25,
    });
  }
  // Growing: the pressed first; shrinking: the others first. Then everyone.
  std::vector<Machine*> first;
  std::vector<Machine*> all;
  for (Machine& vm : machines) {
    all.push_back(&vm);
    if (vm.pressed == (goal > 0)) first.push_back(&vm);
  }
  const double left = distribute(first, goal);
  if (goal < 0 || left == goal) distribute(all, left);
  for (size_t i = 0, machine = 0; i < vms.size(); ++i) {
    if (!vms[i].balloon.stats) continue;
    const Machine& vm = machines[machine++];
    if (vm.moved == 0) continue;
    orders[i].balloon_bytes =
        vms[i].configured_bytes -
        std::min(vms[i].configured_bytes, static_cast<uint64_t>(vm.now + vm.moved));
  }
}

}  // namespace ballast::simulator::fluid
