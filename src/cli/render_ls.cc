#include <algorithm>

#include "base/units.h"
#include "cli/format.h"
#include "cli/render.h"

namespace ballast::cli {

namespace {

std::vector<Cell> row_of(const VmReport& vm, const std::optional<VmRates>& rates) {
  const auto rate = [&](double VmRates::*field) {
    return format_rate(rates ? std::optional(*rates.*field) : std::nullopt);
  };
  const bool is_waiting = rates && rates->waits > 0;
  return {{vm.spec.name},
          {vm.state, colour_of_vm_state(vm)},
          {compact_size(vm.spec.configured_bytes)},
          {compact_size(vm.target_bytes)},
          {compact_size(vm.consumed_bytes)},
          {compact_size(vm.compressed_bytes)},
          {compact_size(vm.swapped_bytes)},
          {compact_size(vm.ballooned_bytes)},
          {rate(&VmRates::faults)},
          {rate(&VmRates::swap_ins)},
          {rate(&VmRates::waits), is_waiting ? Colour::kYellow : Colour::kNone}};
}

std::string render_summary(const HostReport& host, const Style& style) {
  const double ratio = host.budget_bytes == 0 ? 0
                                              : static_cast<double>(host.promised_bytes) /
                                                    static_cast<double>(host.budget_bytes);
  return fmt::format("{} VM{}: {} promised on {} ({:.2f} x); {} consumed, {} free, state {}\n",
                     host.vms.size(), host.vms.size() == 1 ? "" : "s",
                     format_size(host.promised_bytes), format_size(host.budget_bytes), ratio,
                     format_size(host.consumed_bytes), format_size(host.free_bytes),
                     coloured(printable(host.state), colour_of_host_state(host.state), style));
}

// What must not be overlooked, in sentences.
std::string render_troubles(const std::vector<VmReport>& vms, const Style& style) {
  std::string result;
  for (const VmReport& vm : vms) {
    if (vm.state == "paused") {
      result +=
          coloured(wrapped(printable(fmt::format(
                               "{} is paused: {}; mend that, then: ballast resume {}", vm.spec.name,
                               vm.pause_reason.empty() ? "no reason given" : vm.pause_reason,
                               vm.spec.name)),
                           4, style),
                   Colour::kRed, style) +
          '\n';
    } else if (vm.lost_pages > 0) {
      result += coloured(printable(fmt::format("{} has {} unreadable page{}", vm.spec.name,
                                               vm.lost_pages, vm.lost_pages == 1 ? "" : "s")),
                         Colour::kRed, style) +
                '\n';
    }
  }
  return result;
}

}  // namespace

Colour colour_of_vm_state(const VmReport& vm) {
  if (vm.state == "paused" || vm.lost_pages > 0) return Colour::kRed;
  return vm.state == "running" ? Colour::kGreen : Colour::kYellow;
}

Colour colour_of_host_state(const std::string& state) {
  if (state == "high" || state == "clear") return Colour::kGreen;
  return state == "soft" ? Colour::kYellow : Colour::kRed;
}

std::string render_ls(const Observation& observation, const Style& style) {
  if (observation.now.vms.empty()) {
    return "No VM is running. Start one: ballast run --name NAME --memory SIZE -- QEMU-ARGS\n";
  }
  std::vector<VmReport> vms = observation.now.vms;
  std::sort(vms.begin(), vms.end(),
            [](const VmReport& a, const VmReport& b) { return a.spec.name < b.spec.name; });
  Table table({{"NAME", Align::kLeft, true},
               {"STATE", Align::kLeft},
               {"CONFIG"},
               {"TARGET"},
               {"CONSUMED"},
               {"ZIPPED"},
               {"SWAPPED"},
               {"BALLOON"},
               {"FAULT/s"},
               {"SWAPIN/s"},
               {"WAIT/s"}});
  for (const VmReport& vm : vms) table.add_row(row_of(vm, observation.rates_of(vm)));
  return table.render(style) + render_summary(observation.now, style) + render_troubles(vms, style);
}

}  // namespace ballast::cli
