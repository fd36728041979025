#include "base/units.h"
#include "cli/format.h"
#include "cli/render.h"

namespace ballast::cli {

namespace {

struct Sums {
  uint64_t resident = 0, shared = 0, part = 0, arena = 0, compressed = 0, swapped = 0, zero = 0,
           ballooned = 0, untouched = 0;
};

Sums sums_of(const HostReport& host) {
  Sums sums;
  for (const VmReport& vm : host.vms) {
    sums.resident += vm.resident_bytes;
    sums.shared += vm.shared_bytes;
    sums.part += vm.share_part_bytes;
    sums.arena += vm.arena_bytes;
    sums.compressed += vm.compressed_bytes;
    sums.swapped += vm.swapped_bytes;
    sums.zero += vm.zero_bytes;
    sums.ballooned += vm.ballooned_bytes;
    sums.untouched += untouched_bytes(vm);
  }
  return sums;
}

std::string render_budget(const HostReport& host, const Style& style) {
  Table table({{"", Align::kLeft}, {""}, {""}, {"", Align::kLeft}});
  table.add_row({{"budget"}, {format_size(host.budget_bytes)}, {""}, {""}});
  const uint64_t of_vms =
      host.consumed_bytes > host.daemon_bytes ? host.consumed_bytes - host.daemon_bytes : 0;
  table.add_row(
      {{"consumed"},
       {format_size(host.consumed_bytes)},
       {format_percent(host.consumed_bytes, host.budget_bytes)},
       {fmt::format("= {} by VMs + {} by the daemon; at most {} so far", format_size(of_vms),
                    format_size(host.daemon_bytes), format_size(host.peak_consumed_bytes))}});
  table.add_row({{"free"},
                 {format_size(host.free_bytes)},
                 {format_percent(host.free_bytes, host.budget_bytes)},
                 {fmt::format("state {} for {}: {}", host.state, format_uptime(host.state_ns),
                              meaning_of_host_state(host.state)),
                  colour_of_host_state(host.state)}});
  table.add_row({{"promised"},
                 {format_size(host.promised_bytes)},
                 {format_percent(host.promised_bytes, host.budget_bytes)},
                 {fmt::format("to {} VM{}, {} of it guaranteed (min)", host.vms.size(),
                              host.vms.size() == 1 ? "" : "s", format_size(host.min_bytes))}});
  table.add_row({{"divided"},
                 {format_size(host.divided_bytes)},
                 {format_percent(host.divided_bytes, host.budget_bytes)},
                 {fmt::format("among the VMs, by shares; idle tax {}", tax_text(host))}});
  table.add_row({{"unreserved"},
                 {format_size(host.unreserved_bytes)},
                 {format_percent(host.unreserved_bytes, host.budget_bytes)},
                 {"for the mins of further VMs"}});
  return table.render(style);
}

std::string render_means(const HostReport& host, const Style& style) {
  const Sums sums = sums_of(host);
  Table table({{"", Align::kLeft}, {""}, {""}, {"", Align::kLeft}});
  const auto add = [&](const char* label, uint64_t bytes, std::string remark) {
    table.add_row({{label},
                   {format_size(bytes)},
                   {format_percent(bytes, host.promised_bytes)},
                   {std::move(remark)}});
  };
  add("  resident", sums.resident, "");
  add("  shared", sums.shared, fmt::format("on {} of frames", format_size(sums.part)));
  add("  compressed", sums.compressed, fmt::format("in {} of cache", format_size(sums.arena)));
  add("  swapped", sums.swapped, "");
  add("  known zero", sums.zero, "");
  add("  ballooned", sums.ballooned, "");
  add("  untouched", sums.untouched, "");
  return "Where the promised memory is\n" + table.render(style);
}

std::string render_thresholds(const HostReport& host) {
  return fmt::format("State soft below {} free, hard below {}, low below {} (minFree {})\n",
                     format_size(host.soft_bytes), format_size(host.hard_bytes),
                     format_size(host.low_bytes), format_size(host.min_free_bytes));
}

std::string render_reservations(const HostReport& host) {
  std::string result;
  for (const Reservation& one : host.reservations) {
    result += fmt::format("Reserved for {}: {}, {} of it guaranteed (min); ends in {}\n",
                          printable(one.vm), format_size(one.configured_bytes),
                          format_size(one.min_bytes), format_uptime(one.left_ns));
  }
  return result;
}

}  // namespace

std::string render_host(const HostReport& host, const Style& style) {
  std::string result =
      render_budget(host, style) + render_thresholds(host) + render_reservations(host);
  if (!host.vms.empty()) result += render_means(host, style);
  result += render_share_groups(host, style);
  return result + "The daemon has been running for " + format_uptime(host.uptime_ns) + '\n';
}

}  // namespace ballast::cli
