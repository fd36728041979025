// The lines above the table: the host, as esxtop's memory screen begins.
#include <fmt/format.h>

#include "cli/format.h"
#include "cli/render.h"
#include "top/fields.h"
#include "top/screen_parts.h"

namespace ballast::top {

namespace {

using cli::VmRates;

// Six columns: the line of the states must fit 80.
std::string mb(uint64_t bytes) {
  const bool is_large = bytes >= uint64_t{999'999} << 20;
  return is_large ? fmt::format("{}G", bytes >> 30) : megabytes(static_cast<double>(bytes));
}

uint64_t minus(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

struct Sums {
  uint64_t overhead = 0, shared = 0, zero = 0, swapped = 0, swap_target = 0, zipped = 0, arena = 0,
           balloon = 0, balloon_target = 0, balloon_max = 0;
  bool has_rates = false;
  double pages_in = 0, pages_out = 0;  // per second
};

Sums sums_of(const cli::Observation& observation) {
  Sums sums;
  for (const VmReport& vm : observation.now.vms) {
    sums.overhead += vm.overhead_bytes;
    sums.shared += vm.shared_bytes;
    sums.zero += vm.zero_bytes;
    sums.swapped += vm.swapped_bytes;
    sums.swap_target += vm.swap_target_bytes;
    sums.zipped += vm.compressed_bytes;
    sums.arena += vm.arena_bytes;
    sums.balloon += vm.balloon_bytes;
    sums.balloon_target += vm.balloon_target_bytes;
    sums.balloon_max += vm.balloon_max_bytes;
    const auto rates = observation.rates_of(vm);
    sums.has_rates |= rates.has_value();
    if (rates) sums.pages_in += rates->swap_ins + rates->brought_back;
    if (rates) sums.pages_out += rates->swap_outs;
  }
  return sums;
}

std::string rate_text(const Sums& sums, double pages) {
  if (!sums.has_rates) return "-";
  return fmt::format("{:.2f}", pages * 4096 / (1 << 20));
}

std::string overcommit_text(uint64_t percent) {
  return fmt::format("{:.2f}", static_cast<double>(percent) / 100);
}

std::string title_line(const View& view) {
  const HostReport& host = view.observation->now;
  return fmt::format("{} up {}, {} VM{}; MEM overcommit avg: {}, {}, {}",
                     cli::format_time(view.unix_ms).substr(11), cli::format_uptime(host.uptime_ns),
                     host.vms.size(), host.vms.size() == 1 ? "" : "s",
                     overcommit_text(host.overcommit_1min_percent),
                     overcommit_text(host.overcommit_5min_percent),
                     overcommit_text(host.overcommit_15min_percent));
}

// "PMEM  /MB: 16384   total:     12     vmk, …": the numbers under each other.
struct Part {
  std::string number;
  std::string_view label;
};

std::string numbers_line(std::string_view title, const std::vector<Part>& parts) {
  std::string line = fmt::format("{:<6}/MB:", title);
  for (size_t i = 0; i < parts.size(); ++i) {
    const char* end = i + 1 == parts.size() ? "" : i == 0 ? ":" : ",";
    line += fmt::format("{}{:>6} {:>{}}{}", i == 0 ? "" : " ", parts[i].number, parts[i].label,
                        i < 2    ? 7
                        : i == 2 ? 4
                                 : 5,
                        end);
  }
  return line;
}

std::string machine_line(const HostReport& host, const Sums& sums) {
  const uint64_t own = host.daemon_bytes + host.share_tables_bytes + sums.overhead;
  const bool known = host.machine_total_bytes > 0;
  const uint64_t other = minus(host.machine_total_bytes, own + host.machine_available_bytes);
  return numbers_line("PMEM", {{known ? mb(host.machine_total_bytes) : "-", "total"},
                               {mb(own), "vmk"},
                               {known ? mb(other) : "-", "other"},
                               {known ? mb(host.machine_available_bytes) : "-", "free"}});
}

}  // namespace

std::vector<std::string> head_lines(const View& view, const Size& size, bool colours) {
  const auto line = [&](const std::string& text) {
    return Line(size.columns, colours).add(text).take();
  };
  if (!view.observation) {
    std::vector<std::string> lines(kHeadLines);
    lines[0] = line("ballast top");
    return lines;
  }
  const HostReport& host = view.observation->now;
  const Sums sums = sums_of(*view.observation);
  uint64_t common = 0;
  for (const ShareGroupReport& group : host.share_groups) common += group.common_bytes;
  const uint64_t shared = sums.shared + sums.zero;
  Line kernel(size.columns, colours);
  kernel
      .add(numbers_line("VMKMEM", {{mb(host.budget_bytes), "managed"},
                                   {mb(host.min_free_bytes), "minfree"},
                                   {mb(minus(host.budget_bytes, host.unreserved_bytes)), "rsvd"},
                                   {mb(host.unreserved_bytes), "ursvd"}}))
      .add(", ")
      .add(cli::printable(host.state), cli::colour_of_host_state(host.state))
      .add(" state");
  return {line(title_line(view)),
          line(machine_line(host, sums)),
          kernel.take(),
          line(numbers_line("PSHARE", {{mb(shared), "shared"},
                                       {mb(common), "common"},
                                       {mb(minus(shared, common)), "saving"}})),
          line(numbers_line("SWAP", {{mb(sums.swapped), "curr"},
                                     {mb(sums.swap_target), "rclmtgt"},
                                     {rate_text(sums, sums.pages_in), "r/s"},
                                     {rate_text(sums, sums.pages_out), "w/s"}})),
          line(numbers_line(
              "ZIP", {{mb(sums.zipped), "zipped"}, {mb(minus(sums.zipped, sums.arena)), "saved"}})),
          line(numbers_line("MEMCTL", {{mb(sums.balloon), "curr"},
                                       {mb(sums.balloon_target), "target"},
                                       {mb(sums.balloon_max), "max"}}))};
}

}  // namespace ballast::top
