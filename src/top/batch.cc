#include "top/batch.h"

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <ostream>
#include <thread>

#include "top/fields.h"
#include "top/rows.h"
#include "top/source.h"

namespace ballast::top {

namespace {

struct HostColumn {
  std::string_view name;
  std::string (*text)(const HostReport& host);
};

std::string mb(uint64_t bytes) {
  return fmt::format("{:.3f}", static_cast<double>(bytes) / (1 << 20));
}
std::string mb_if_known(uint64_t bytes) { return bytes == 0 ? "" : mb(bytes); }
std::string ratio(uint64_t percent) {
  return fmt::format("{:.2f}", static_cast<double>(percent) / 100);
}

constexpr std::array kHostColumns = {
    HostColumn{"host_state", [](const HostReport& host) { return host.state; }},
    HostColumn{"host_vms", [](const HostReport& host) { return std::to_string(host.vms.size()); }},
    HostColumn{"host_total_mb",
               [](const HostReport& host) { return mb_if_known(host.machine_total_bytes); }},
    HostColumn{"host_available_mb",
               [](const HostReport& host) { return mb_if_known(host.machine_available_bytes); }},
    HostColumn{"managed_mb", [](const HostReport& host) { return mb(host.budget_bytes); }},
    HostColumn{"consumed_mb", [](const HostReport& host) { return mb(host.consumed_bytes); }},
    HostColumn{"free_mb", [](const HostReport& host) { return mb(host.free_bytes); }},
    HostColumn{"minfree_mb", [](const HostReport& host) { return mb(host.min_free_bytes); }},
    HostColumn{"unreserved_mb", [](const HostReport& host) { return mb(host.unreserved_bytes); }},
    HostColumn{"promised_mb", [](const HostReport& host) { return mb(host.promised_bytes); }},
    HostColumn{
        "ballastd_mb",
        [](const HostReport& host) { return mb(host.daemon_bytes + host.share_tables_bytes); }},
    HostColumn{"pshare_common_mb",
               [](const HostReport& host) {
                 uint64_t common = 0;
                 for (const ShareGroupReport& group : host.share_groups)
                   common += group.common_bytes;
                 return mb(common);
               }},
    HostColumn{"overcommit_1min",
               [](const HostReport& host) { return ratio(host.overcommit_1min_percent); }},
    HostColumn{"overcommit_5min",
               [](const HostReport& host) { return ratio(host.overcommit_5min_percent); }},
    HostColumn{"overcommit_15min",
               [](const HostReport& host) { return ratio(host.overcommit_15min_percent); }},
};

std::string quoted(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string result = "\"";
  for (const char c : text) result += c == '"' ? std::string("\"\"") : std::string(1, c);
  return result + '"';
}

}  // namespace

std::string csv_header() {
  std::string line = "time,name";
  for (const Field& field : all_fields()) line += fmt::format(",{}", field.csv);
  for (const HostColumn& column : kHostColumns) line += fmt::format(",{}", column.name);
  return line + '\n';
}

std::string csv_lines(const cli::Observation& observation, uint64_t unix_ms) {
  const std::string time = fmt::format("{}.{:03}", unix_ms / 1000, unix_ms % 1000);
  std::string result = time + ',' + std::string(all_fields().size(), ',');
  for (const HostColumn& column : kHostColumns) {
    result += ',' + quoted(column.text(observation.now));
  }
  result += '\n';
  Settings settings;
  settings.only_vms = true;
  for (const Row& row : rows_of(observation, settings)) {
    result += time + ',' + quoted(row.name);
    for (const Field& field : all_fields()) result += ',' + quoted(csv_text(field, row));
    result += std::string(kHostColumns.size(), ',') + '\n';
  }
  return result;
}

int run_batch(const BatchOptions& options, std::ostream& out, std::ostream& err) {
  using Clock = std::chrono::steady_clock;
  const auto delay = std::chrono::duration_cast<Clock::duration>(
      std::chrono::duration<double>(options.delay_seconds));
  HostReader reader;
  std::optional<cli::Observation> observation;
  bool was_away = false;
  auto next = Clock::now();
  for (uint64_t done = 0; options.count == 0 || done < options.count;) {
    const Status updated = reader.update(observation, options.run_dir);
    if (updated) {
      const auto now = std::chrono::system_clock::now().time_since_epoch();
      const auto unix_ms = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
      if (done == 0) out << csv_header();
      out << csv_lines(*observation, static_cast<uint64_t>(unix_ms)) << std::flush;
      if (!out.good()) return 0;  // nobody reads any more
      ++done;
      was_away = false;
    } else if (done == 0) {
      err << "ballast: " << updated.error().message << '\n';
      return 1;
    } else {
      if (!was_away) err << "ballast: " << updated.error().message << "; waiting for it\n";
      was_away = true;
    }
    next = std::max(next + delay, Clock::now());
    if (done != options.count || options.count == 0) std::this_thread::sleep_until(next);
  }
  return 0;
}

}  // namespace ballast::top
