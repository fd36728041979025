#include "base/units.h"
#include "cli/format.h"
#include "cli/render.h"

namespace ballast::cli {

namespace {

std::string render_head(const VmReport& vm, const Style& style) {
  std::string result =
      fmt::format("{}: {}, process {}\n", coloured(printable(vm.spec.name), Colour::kBold, style),
                  coloured(printable(vm.state), colour_of_vm_state(vm), style), vm.pid);
  if (!vm.pause_reason.empty()) {
    const std::string text = fmt::format("  because {}; mend that, then: ballast resume {}",
                                         printable(vm.pause_reason), printable(vm.spec.name));
    result += coloured(wrapped(text, 4, style), Colour::kRed, style) + '\n';
  }
  if (vm.blocked) {
    result += coloured("  blocked: the host is low on memory and the VM above its target",
                       Colour::kRed, style) +
              '\n';
  }
  if (!vm.spec.uuid.empty()) result += "  uuid " + printable(vm.spec.uuid) + '\n';
  return result;
}

std::string render_sizes(const VmReport& vm, const HostReport& host, const Style& style) {
  const Allocation& allocation = vm.spec.allocation;
  Table table({{"", Align::kLeft}, {""}, {"", Align::kLeft}});
  table.add_row({{"  configured"}, {format_size(vm.spec.configured_bytes)}, {""}});
  table.add_row({{"  min"}, {format_size(allocation.min_bytes)}, {""}});
  table.add_row({{"  limit"}, {limit_text(allocation.limit_bytes)}, {""}});
  table.add_row({{"  shares"},
                 {std::to_string(vm.shares)},
                 {fmt::format("{}; {} of all", shares_word(vm),
                              format_percent(vm.shares, sum_of_shares(host)))}});
  table.add_row(
      {{"  active"}, {vm.samples == 0 ? "-" : format_size(vm.active_bytes)}, {active_detail(vm)}});
  table.add_row({{"  target"},
                 {format_size(vm.target_bytes)},
                 {vm.bound.empty() ? "" : fmt::format("decided by {}", vm.bound)}});
  std::string sum = fmt::format("= {} resident + {} compression cache + {} overhead",
                                format_size(vm.resident_bytes), format_size(vm.arena_bytes),
                                format_size(vm.overhead_bytes));
  if (vm.share_part_bytes > 0) {
    sum += fmt::format(" + {} shared", format_size(vm.share_part_bytes));
  }
  table.add_row({{"  consumed"}, {format_size(vm.consumed_bytes)}, {std::move(sum)}});
  table.add_row({{"  balloon"}, {format_size(vm.balloon_bytes)}, {balloon_detail(vm)}});
  return table.render(style);
}

std::string cache_remark(const VmReport& vm) {
  if (vm.compressed_bytes == 0) return "";
  return fmt::format("in {} of cache ({} of its size)", format_size(vm.arena_bytes),
                     format_percent(vm.arena_bytes, vm.compressed_bytes));
}

std::string saving_remark(const VmReport& vm) {
  if (vm.shared_bytes == 0) return "";
  return fmt::format("its part of the frames is {}: {} saved", format_size(vm.share_part_bytes),
                     format_size(saving_bytes(vm)));
}

std::string render_whereabouts(const VmReport& vm, const Style& style) {
  Table table({{"", Align::kLeft}, {""}, {""}, {"", Align::kLeft}});
  const auto add = [&](const char* label, uint64_t bytes, std::string remark) {
    table.add_row({{label},
                   {format_size(bytes)},
                   {format_percent(bytes, vm.spec.configured_bytes)},
                   {std::move(remark)}});
  };
  add("  resident", vm.resident_bytes, "");
  add("  shared", vm.shared_bytes, saving_remark(vm));
  add("  compressed", vm.compressed_bytes, cache_remark(vm));
  add("  swapped", vm.swapped_bytes,
      fmt::format("{} reserved on disk", format_size(vm.swap_reserved_bytes)));
  add("  known zero", vm.zero_bytes, "");
  add("  ballooned", vm.ballooned_bytes, "given up by the guest");
  add("  untouched", untouched_bytes(vm), "");
  std::string result = "Where the guest's memory is\n" + table.render(style);
  if (vm.lost_pages > 0) {
    result += coloured(fmt::format("  lost: {} page{} cannot be read back", vm.lost_pages,
                                   vm.lost_pages == 1 ? "" : "s"),
                       Colour::kRed, style) +
              '\n';
  }
  return result;
}

std::string render_sharing(const VmReport& vm, const HostReport& host, const Style& style) {
  const auto line = [&](const std::string& text, size_t indent) {
    return wrapped(printable(text), indent, style) + '\n';
  };
  std::string result = line("Page sharing: " + membership_text(vm, host), 4);
  if (!vm.spec.share_group.empty()) {
    result += line(fmt::format("  scanned at {} pages/s; {} pages known by their content "
                               "(hints)",
                               vm.share_rate, vm.share_hints),
                   4);
  }
  if (!vm.share_note.empty()) result += line("  " + vm.share_note, 4);
  const std::string waiting = waiting_text(vm);
  if (!waiting.empty()) {
    result += coloured(wrapped("  " + printable(waiting), 4, style), Colour::kYellow, style) + '\n';
  }
  return result;
}

std::string render_activity(const VmReport& vm, const std::optional<VmRates>& rates,
                            const Style& style) {
  Table table({{"Activity", Align::kLeft}, {"total"}, {"per second"}, {"", Align::kLeft}});
  const auto add = [&](const char* label, uint64_t total, double VmRates::*rate,
                       const char* remark) {
    table.add_row({{label},
                   {std::to_string(total)},
                   {format_rate(rates ? std::optional(*rates.*rate) : std::nullopt)},
                   {remark}});
  };
  add("  faults", vm.faults, &VmRates::faults, "");
  add("  first touches", vm.first_touches, &VmRates::first_touches, "");
  add("  decompressed", vm.unzips, &VmRates::unzips, "pages, for faults");
  add("  swapped in", vm.swap_ins, &VmRates::swap_ins, "pages, read-ahead included");
  add("  compressed", vm.zips, &VmRates::zips, "pages");
  add("  swapped out", vm.swap_outs, &VmRates::swap_outs, "pages");
  add("  brought back", vm.brought_back, &VmRates::brought_back, "pages, before they were missed");
  add("  dropped clean", vm.clean_drops, &VmRates::clean_drops, "pages, not rewritten");
  add("  waits", vm.waits, &VmRates::waits, "faults that had to wait for memory");
  add("  sampling", vm.sample_faults, &VmRates::sample_faults, "faults that it cost");
  add("  scanned", vm.share_scanned, &VmRates::share_scanned, "pages, for sharing");
  add("  joined", vm.share_joins, &VmRates::share_joins,
      "pages, gave their frame for a shared one");
  add("  breaks", vm.share_breaks, &VmRates::share_breaks, "shared pages that were written");
  return table.render(style);
}

}  // namespace

std::string render_show(const VmReport& vm, const Observation& observation, const Style& style) {
  std::string result = render_head(vm, style) + render_sizes(vm, observation.now, style) +
                       render_whereabouts(vm, style) + render_sharing(vm, observation.now, style) +
                       render_activity(vm, observation.rates_of(vm), style);
  if (vm.fault_p99_ns > 0) {
    result += fmt::format("Faults are served within {} (half of them) and {} (99 %)\n",
                          format_nanoseconds(vm.fault_p50_ns), format_nanoseconds(vm.fault_p99_ns));
  }
  return result;
}

}  // namespace ballast::cli
