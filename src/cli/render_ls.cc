#include <algorithm>

#include "base/units.h"
#include "cli/format.h"
#include "cli/render.h"

namespace ballast::cli {

namespace {

Colour colour_of_balloon(const VmReport& vm) {
  const bool is_in_trouble = vm.balloon_state == "stuck" || vm.balloon_state == "unreachable";
  return is_in_trouble ? Colour::kYellow : Colour::kNone;
}

std::vector<Cell> row_of(const VmReport& vm, const std::optional<VmRates>& rates) {
  const auto rate = [&](double VmRates::*field) {
    return format_rate(rates ? std::optional(*rates.*field) : std::nullopt);
  };
  const bool is_waiting = vm.blocked || (rates && rates->waits > 0);
  return {{vm.spec.name, colour_of_vm_state(vm)},
          {compact_size(vm.spec.configured_bytes)},
          {compact_size(vm.target_bytes)},
          {compact_size(vm.consumed_bytes)},
          {vm.samples == 0 ? "-" : compact_size(vm.active_bytes)},
          {compact_count(vm.shares)},
          {compact_size(vm.compressed_bytes)},
          {compact_size(vm.swapped_bytes)},
          {compact_size(vm.ballooned_bytes), colour_of_balloon(vm)},
          {compact_size(saving_bytes(vm))},
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

// What must not be overlooked about a VM, as a sentence; empty: nothing.
std::string trouble_of(const VmReport& vm) {
  const std::string& name = vm.spec.name;
  if (vm.state == "paused") {
    return fmt::format("{} is paused: {}; mend that, then: ballast resume {}", name,
                       vm.pause_reason.empty() ? "no reason given" : vm.pause_reason, name);
  }
  if (vm.lost_pages > 0) {
    return fmt::format("{} has {} unreadable page{}", name, vm.lost_pages,
                       vm.lost_pages == 1 ? "" : "s");
  }
  if (vm.state != "running") return fmt::format("{} is {}", name, vm.state);
  if (vm.blocked) {
    return fmt::format(
        "{} is blocked: the host is low on memory and it is above its target; see: ballast why {}",
        name, name);
  }
  return "";
}

std::string render_troubles(const std::vector<VmReport>& vms, const Style& style) {
  std::string result;
  for (const VmReport& vm : vms) {
    const std::string trouble = trouble_of(vm);
    if (trouble.empty()) continue;
    const Colour colour = vm.blocked ? Colour::kYellow : colour_of_vm_state(vm);
    result += coloured(wrapped(printable(trouble), 4, style), colour, style) + '\n';
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
               {"CONFIG"},
               {"TARGET"},
               {"CONSUMED"},
               {"ACTIVE"},
               {"SHARES"},
               {"ZIPPED"},
               {"SWAPPED"},
               {"BALLOON"},
               {"SAVED"},
               {"SWIN/s"},
               {"WAIT/s"}});
  for (const VmReport& vm : vms) table.add_row(row_of(vm, observation.rates_of(vm)));
  return table.render(style) + render_summary(observation.now, style) + render_troubles(vms, style);
}

}  // namespace ballast::cli
