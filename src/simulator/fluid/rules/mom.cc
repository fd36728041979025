#include <numeric>

#include "simulator/fluid/rules/peers.h"

namespace ballast::simulator::fluid {

namespace {

constexpr Nanoseconds kPeriod = 10 * kSecond;
constexpr Nanoseconds kSamplePeriod = 5 * kSecond;
constexpr size_t kSamples = 10;
constexpr double kPressure = 0.20;  // part of host memory that is free
constexpr double kCritical = 0.05;
constexpr double kGuestFree = 0.20;  // part that a guest should have free
constexpr double kMostChange = 0.05;
constexpr double kLeastChange = 0.0025;

void remember(std::vector<double>& samples, double value) {
  if (samples.size() == kSamples) samples.erase(samples.begin());
  samples.push_back(value);
}

double average(const std::vector<double>& samples) {
  return std::accumulate(samples.begin(), samples.end(), 0.0) / static_cast<double>(samples.size());
}

}  // namespace

void MomRule::sample(const HostSeen& host, std::span<const VmSeen> vms) {
  remember(host_free_, static_cast<double>(host.free_bytes));
  for (const VmSeen& vm : vms) {
    if (!vm.balloon.stats) continue;
    // What is not free counts as used: page cache too.
    const uint64_t memory = guest_memory(vm);
    remember(
        guest_used_[vm.name],
        static_cast<double>(memory - std::min(memory, vm.balloon.stats->free_bytes.value_or(0))));
  }
}

void MomRule::act(const HostSeen& host, std::span<const VmSeen> vms, std::span<Order> orders) {
  if (host.now >= next_sample_) {
    next_sample_ = host.now + kSamplePeriod;
    sample(host, vms);
  }
  if (host.now < next_) return;
  next_ = host.now + kPeriod;
  const double host_free = average(host_free_) / static_cast<double>(host.memory_bytes);
  for (size_t i = 0; i < vms.size(); ++i) {
    const VmSeen& vm = vms[i];
    const auto known = guest_used_.find(vm.name);
    if (!vm.balloon.stats || known == guest_used_.end()) continue;
    const double used = average(known->second);
    const auto now = static_cast<double>(guest_memory(vm));
    const auto least = static_cast<double>(balloon_floor(vm));
    const auto most = static_cast<double>(guest_max(vm));
    double next = now;
    if (host_free < kPressure) {
      // Below the critical line the margin is negative: the guest is made to swap.
      const double margin =
          host_free <= kCritical ? host_free - kCritical : kGuestFree * host_free / kPressure;
      next = std::max(now * (1 - kMostChange), std::max(least, used + margin * now));
      if (next >= now) continue;
    } else {
      if (now >= most) continue;
      next = std::min(most,
                      std::max(now * (1 + kMostChange), std::max(least, used + kGuestFree * now)));
    }
    if (std::max(next - now, now - next) < kLeastChange * now) continue;
    orders[i].balloon_bytes =
        vm.configured_bytes - std::min(vm.configured_bytes, static_cast<uint64_t>(next));
  }
}

}  // namespace ballast::simulator::fluid
