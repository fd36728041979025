#include "top/fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/units.h"

namespace ballast::top {

namespace {

using cli::VmRates;
using Rates = std::optional<VmRates>;
using Value = std::optional<double>;

constexpr double kMegabyte = 1 << 20;

template <uint64_t VmReport::*member>
Value bytes(const VmReport& vm, const Rates&) {
  return static_cast<double>(vm.*member);
}

// A rate of pages, in bytes per second.
template <double VmRates::*... members>
Value paged(const VmReport&, const Rates& rates) {
  if (!rates) return std::nullopt;
  return ((*rates.*members) + ...) * static_cast<double>(kPageBytes);
}

template <double VmRates::*member>
bool happens(const VmReport&, const Rates& rates) {
  return rates && *rates.*member > 0;
}

Value configured(const VmReport& vm, const Rates&) {
  return static_cast<double>(vm.spec.configured_bytes);
}

// Guest memory that has machine memory behind it, its own or a shared frame; a known-zero page is
// as good as one.
Value granted(const VmReport& vm, const Rates&) {
  return static_cast<double>(vm.resident_bytes + vm.shared_bytes + vm.zero_bytes);
}

Value touched(const VmReport& vm, const Rates&) {
  if (vm.samples == 0) return std::nullopt;
  return static_cast<double>(vm.active_bytes);
}

template <uint64_t VmReport::*member>
Value active_percent(const VmReport& vm, const Rates&) {
  if (vm.samples == 0 || vm.spec.configured_bytes == 0) return std::nullopt;
  return 100 * static_cast<double>(vm.*member) / static_cast<double>(vm.spec.configured_bytes);
}

bool has_monitor(const VmReport& vm) {
  return !vm.balloon_state.empty() && vm.balloon_state != "unreachable";
}

std::string balloon_driver(const VmReport& vm) {
  if (!has_monitor(vm)) return "";
  return vm.balloon_state == "none" || vm.balloon_state == "no-driver" ? "N" : "Y";
}

bool balloon_in_trouble(const VmReport& vm, const Rates&) {
  return vm.balloon_state == "stuck" || vm.balloon_state == "unreachable";
}

// Sizes are the last ones known while the monitor does not answer; what was asked for is not, and
// what somebody else asked for cannot be known.
Value balloon_target(const VmReport& vm, const Rates&) {
  if (!has_monitor(vm) || vm.balloon_state == "foreign") return std::nullopt;
  return static_cast<double>(vm.balloon_target_bytes);
}

Value balloon_size(const VmReport& vm, const Rates&) {
  if (vm.balloon_state.empty()) return std::nullopt;
  return static_cast<double>(vm.balloon_bytes);
}

// Zero pages included, as in ESX: all of them would be one frame.
Value shared(const VmReport& vm, const Rates&) {
  return static_cast<double>(vm.shared_bytes + vm.zero_bytes);
}

Value shared_saved(const VmReport& vm, const Rates&) {
  return static_cast<double>(cli::saving_bytes(vm) + vm.zero_bytes);
}

Value min_bytes(const VmReport& vm, const Rates&) {
  return static_cast<double>(vm.spec.allocation.min_bytes);
}

// No limit is no number; the text says so.
std::string limit_text(const VmReport& vm) {
  const uint64_t limit = vm.spec.allocation.limit_bytes;
  return limit == kNoLimit ? "none" : megabytes(static_cast<double>(limit));
}

Value share_number(const VmReport& vm, const Rates&) { return static_cast<double>(vm.shares); }

std::string share_group(const VmReport& vm) {
  return vm.spec.share_group.empty() ? "off" : vm.spec.share_group;
}

Value waits(const VmReport&, const Rates& rates) {
  if (!rates) return std::nullopt;
  return rates->waits;
}

Value fault_p99(const VmReport& vm, const Rates&) {
  if (vm.fault_p99_ns == 0) return std::nullopt;
  return static_cast<double>(vm.fault_p99_ns) / 1000;
}

std::string state_text(const VmReport& vm) {
  if (vm.lost_pages > 0) return "lost";
  return vm.blocked && vm.state == "running" ? "blocked" : vm.state;
}

bool state_worries(const VmReport& vm, const Rates&) {
  return vm.lost_pages > 0 || vm.blocked || vm.state != "running";
}

constexpr auto kMb = Unit::kMegabytes;
constexpr auto kMbs = Unit::kMegabytesPerSecond;

constexpr std::array kFields = {
    Field{"MEMSZ", "memsz_mb", kMb, 7, "configured memory", configured},
    Field{"GRANT", "grant_mb", kMb, 7, "guest memory that is mapped to machine memory", granted},
    Field{"CNSM", "cnsm_mb", kMb, 7, "machine memory it costs now",
          bytes<&VmReport::consumed_bytes>},
    Field{"SZTGT", "sztgt_mb", kMb, 7, "machine memory it should cost (target)",
          bytes<&VmReport::target_bytes>},
    Field{"TCHD", "tchd_mb", kMb, 7, "guest memory touched lately, estimated", touched},
    Field{"%ACTV", "actv_percent", Unit::kPercent, 5, "active now, of its size",
          active_percent<&VmReport::active_now_bytes>},
    Field{"%ACTVS", "actvs_percent", Unit::kPercent, 6, "active, slow average",
          active_percent<&VmReport::active_slow_bytes>},
    Field{"%ACTVF", "actvf_percent", Unit::kPercent, 6, "active, fast average",
          active_percent<&VmReport::active_fast_bytes>},
    Field{"MCTL?", "mctl", Unit::kText, 5, "balloon driver works: Y or N", nullptr, balloon_driver,
          balloon_in_trouble},
    Field{"MCTLSZ", "mctlsz_mb", kMb, 7, "balloon: size", balloon_size, nullptr,
          balloon_in_trouble},
    Field{"MCTLTGT", "mctltgt_mb", kMb, 7, "balloon: asked for", balloon_target},
    Field{"MCTLMAX", "mctlmax_mb", kMb, 7, "balloon: at most", bytes<&VmReport::balloon_max_bytes>},
    Field{"SWCUR", "swcur_mb", kMb, 7, "swapped by Ballast", bytes<&VmReport::swapped_bytes>},
    Field{"SWTGT", "swtgt_mb", kMb, 7, "to be swapped, as things are",
          bytes<&VmReport::swap_target_bytes>},
    Field{"SWR/s", "swr_mb_per_s", kMbs, 7, "read from swap, MB/s",
          paged<&VmRates::swap_ins, &VmRates::brought_back>, nullptr, happens<&VmRates::swap_ins>},
    Field{"SWW/s", "sww_mb_per_s", kMbs, 7, "written to swap, MB/s", paged<&VmRates::swap_outs>,
          nullptr, happens<&VmRates::swap_outs>},
    Field{"CACHESZ", "cachesz_mb", kMb, 7, "compression cache: at most",
          bytes<&VmReport::arena_max_bytes>},
    Field{"CACHEUSD", "cacheusd_mb", kMb, 8, "compression cache: used",
          bytes<&VmReport::arena_bytes>},
    Field{"ZIP/s", "zip_mb_per_s", kMbs, 7, "compressed, MB/s", paged<&VmRates::zips>},
    Field{"UNZIP/s", "unzip_mb_per_s", kMbs, 7, "decompressed for faults, MB/s",
          paged<&VmRates::unzips>},
    Field{"SHRD", "shrd_mb", kMb, 7, "shared guest memory, zero pages included", shared},
    Field{"ZERO", "zero_mb", kMb, 7, "of it known-zero pages", bytes<&VmReport::zero_bytes>},
    Field{"SHRDSVD", "shrdsvd_mb", kMb, 7, "saved by sharing", shared_saved},
    Field{"OVHD", "ovhd_mb", kMb, 7, "tables and buffers", bytes<&VmReport::overhead_bytes>},
    Field{"AMIN", "amin_mb", kMb, 7, "min: never left with less", min_bytes},
    Field{"ALMT", "almt_mb", Unit::kText, 7, "limit: never more", nullptr, limit_text},
    Field{"ASHRS", "ashrs", Unit::kCount, 9, "shares: weight when memory is short", share_number},
    Field{"SALT", "salt_group", Unit::kText, 14, "salt group it shares pages in", nullptr,
          share_group},
    Field{"WAIT/s", "waits_per_s", Unit::kPerSecond, 7, "faults that waited for memory, per second",
          waits, nullptr, happens<&VmRates::waits>},
    Field{"FLT99", "fault_p99_us", Unit::kMicroseconds, 7, "99 % of faults took at most, us",
          fault_p99},
    Field{"STATE", "state", Unit::kText, 7, "running, blocked, paused, lost, leaving", nullptr,
          state_text, state_worries},
};

// At 80 columns the first eight are seen.
constexpr std::array<std::string_view, 24> kDefault = {
    "MEMSZ", "GRANT",   "CNSM",  "SZTGT", "TCHD",    "%ACTV",   "MCTLSZ",   "SWCUR",
    "SWR/s", "SWW/s",   "SWTGT", "MCTL?", "MCTLTGT", "MCTLMAX", "CACHEUSD", "CACHESZ",
    "ZIP/s", "UNZIP/s", "SHRD",  "ZERO",  "SHRDSVD", "OVHD",    "%ACTVS",   "%ACTVF"};

std::string number_text(Unit unit, double value) {
  switch (unit) {
    case Unit::kMegabytes:
      return megabytes(value);
    case Unit::kMegabytesPerSecond:
      return fmt::format("{:.2f}", value / kMegabyte);
    case Unit::kPercent:
      return fmt::format("{:.0f}", value);
    case Unit::kPerSecond:
      return fmt::format("{:.1f}", value);
    case Unit::kMicroseconds:
    case Unit::kCount:
      return fmt::format("{:.0f}", value);
    case Unit::kText:
      break;
  }
  return "";
}

}  // namespace

std::span<const Field> all_fields() { return kFields; }

const Field* find_field(std::string_view name) {
  const auto found =
      std::ranges::find_if(kFields, [&](const Field& field) { return field.name == name; });
  return found == kFields.end() ? nullptr : &*found;
}

std::span<const std::string_view> default_fields() { return kDefault; }

std::optional<double> value_of(const Field& field, const Row& row) {
  if (row.vm != nullptr) {
    return field.value == nullptr ? std::nullopt : field.value(*row.vm, row.rates);
  }
  const auto known = std::ranges::find_if(
      row.known, [&](const Row::Known& one) { return one.field == field.name; });
  return known == row.known.end() ? std::nullopt : std::optional(known->value);
}

std::string cell_text(const Field& field, const Row& row) {
  std::string text;
  if (field.unit == Unit::kText) {
    if (row.vm != nullptr) text = cli::printable(field.text(*row.vm));
  } else if (const auto value = value_of(field, row)) {
    text = number_text(field.unit, *value);
    // A number that does not fit would be read as another one.
    if (text.size() > field.width) text = fmt::format("{:.0e}", *value);
  }
  return text.empty() ? "-" : cli::shortened(text, field.width);
}

std::string csv_text(const Field& field, const Row& row) {
  if (field.unit == Unit::kText) {
    if (row.vm == nullptr) return "";
    if (field.name == "ALMT") {
      const uint64_t limit = row.vm->spec.allocation.limit_bytes;
      return limit == kNoLimit ? "none"
                               : fmt::format("{:.3f}", static_cast<double>(limit) / kMegabyte);
    }
    return field.text(*row.vm);
  }
  const auto value = value_of(field, row);
  if (!value) return "";
  switch (field.unit) {
    case Unit::kMegabytes:
    case Unit::kMegabytesPerSecond:
      return fmt::format("{:.3f}", *value / kMegabyte);
    case Unit::kCount:
      return fmt::format("{:.0f}", *value);
    case Unit::kPercent:
    case Unit::kPerSecond:
    case Unit::kMicroseconds:
    case Unit::kText:
      break;
  }
  return fmt::format("{:.2f}", *value);
}

std::string megabytes(double bytes) {
  const double value = bytes / kMegabyte;
  if (value <= 0) return "0";
  if (value < 9.95) return fmt::format("{:.1f}", value);
  if (value < 9'999'999.5) return fmt::format("{:.0f}", value);
  return fmt::format("{:.0f}G", value / 1024);
}

}  // namespace ballast::top
