#include <cmath>

#include "simulator/fluid/rules/peers.h"

namespace ballast::simulator::fluid {

namespace {

constexpr Nanoseconds kPeriod = 6 * kSecond;
constexpr double kStallAllowed = 0.001;
constexpr uint64_t kFloor = 100 << 20;

}  // namespace

void SenpaiRule::act(const HostSeen& host, std::span<const VmSeen> vms, std::span<Order> orders) {
  const double seconds =
      last_ == 0 ? 0 : static_cast<double>(host.now - last_) / static_cast<double>(kSecond);
  last_ = host.now;
  for (const VmSeen& vm : vms) {
    Pressure& pressure = pressure_[vm.name];
    pressure.avg10 += (1 - std::exp(-seconds / 10)) * (vm.stall - pressure.avg10);
    pressure.avg60 += (1 - std::exp(-seconds / 60)) * (vm.stall - pressure.avg60);
  }
  if (host.now < next_) return;
  next_ = host.now + kPeriod;
  for (size_t i = 0; i < vms.size(); ++i) {
    const VmSeen& vm = vms[i];
    const Pressure& pressure = pressure_[vm.name];
    const uint64_t floor = std::max(kFloor, vm.allocation.min_bytes);
    orders[i].reclaim_bytes = 0;
    if (std::max(pressure.avg10, pressure.avg60) >= kStallAllowed) continue;
    if (vm.resident_bytes > floor) orders[i].reclaim_bytes = (vm.resident_bytes - floor) / 100;
  }
}

}  // namespace ballast::simulator::fluid
