#include "cli/rates.h"

#include <algorithm>

namespace ballast::cli {

const VmReport* find_vm(const HostReport& host, std::string_view name) {
  const auto found = std::find_if(host.vms.begin(), host.vms.end(),
                                  [&](const VmReport& vm) { return vm.spec.name == name; });
  return found == host.vms.end() ? nullptr : &*found;
}

std::optional<VmRates> Observation::rates_of(const VmReport& vm) const {
  if (!before || now.uptime_ns <= before->uptime_ns) return std::nullopt;
  const VmReport* earlier = find_vm(*before, vm.spec.name);
  if (earlier == nullptr || earlier->pid != vm.pid || vm.faults < earlier->faults) {
    return std::nullopt;
  }
  const double seconds = static_cast<double>(now.uptime_ns - before->uptime_ns) / 1e9;
  const auto rate = [&](uint64_t VmReport::*counter) {
    const uint64_t from = earlier->*counter;
    const uint64_t to = vm.*counter;
    return to < from ? 0 : static_cast<double>(to - from) / seconds;
  };
  return VmRates{
      .faults = rate(&VmReport::faults),
      .first_touches = rate(&VmReport::first_touches),
      .unzips = rate(&VmReport::unzips),
      .swap_ins = rate(&VmReport::swap_ins),
      .zips = rate(&VmReport::zips),
      .swap_outs = rate(&VmReport::swap_outs),
      .brought_back = rate(&VmReport::brought_back),
      .clean_drops = rate(&VmReport::clean_drops),
      .waits = rate(&VmReport::waits),
      .sample_faults = rate(&VmReport::sample_faults),
      .share_scanned = rate(&VmReport::share_scanned),
      .share_joins = rate(&VmReport::share_joins),
      .share_breaks = rate(&VmReport::share_breaks),
  };
}

uint64_t sum_of_shares(const HostReport& host) {
  uint64_t sum = 0;
  for (const VmReport& vm : host.vms) sum += vm.shares;
  return sum;
}

uint64_t untouched_bytes(const VmReport& vm) {
  const uint64_t known = vm.resident_bytes + vm.compressed_bytes + vm.swapped_bytes +
                         vm.zero_bytes + vm.ballooned_bytes + vm.shared_bytes;
  return vm.spec.configured_bytes > known ? vm.spec.configured_bytes - known : 0;
}

uint64_t saving_bytes(const VmReport& vm) {
  return vm.shared_bytes - std::min(vm.shared_bytes, vm.share_part_bytes);
}

uint64_t saving_bytes(const ShareGroupReport& group) {
  return group.shared_bytes - std::min(group.shared_bytes, group.common_bytes);
}

}  // namespace ballast::cli
