#include "top/rows.h"

#include <algorithm>

namespace ballast::top {

namespace {

// What a row is sorted by: numbers and texts; rows of which it is not known come last.
struct Key {
  std::optional<double> number;
  std::string text;
};

Key key_of(const Row& row, const Field* field) {
  if (field == nullptr) return {.number = {}, .text = row.name};
  if (field->unit == Unit::kText) return {.number = {}, .text = cell_text(*field, row)};
  return {.number = value_of(*field, row), .text = {}};
}

// Numbers: the largest first; texts: in the order of the alphabet.
bool precedes(const Key& a, const Key& b) {
  if (a.number || b.number) return a.number && (!b.number || *a.number > *b.number);
  return a.text < b.text;
}

void sort_rows(std::vector<Row>& rows, const Settings& settings) {
  const Field* field = find_field(settings.sort);
  std::vector<std::pair<Key, Row>> keyed;
  keyed.reserve(rows.size());
  for (Row& row : rows) keyed.emplace_back(key_of(row, field), std::move(row));
  std::ranges::sort(keyed, [&](const auto& a, const auto& b) {
    if (precedes(a.first, b.first)) return !settings.reverse;
    if (precedes(b.first, a.first)) return settings.reverse;
    return a.second.name < b.second.name;
  });
  rows.clear();
  for (auto& [key, row] : keyed) rows.push_back(std::move(row));
}

}  // namespace

std::vector<Row> rows_of(const cli::Observation& observation, const Settings& settings) {
  const HostReport& host = observation.now;
  std::vector<Row> rows;
  for (const VmReport& vm : host.vms) {
    rows.push_back(
        {.name = vm.spec.name, .vm = &vm, .rates = observation.rates_of(vm), .known = {}});
  }
  sort_rows(rows, settings);
  if (settings.only_vms) return rows;
  const auto own = static_cast<double>(host.daemon_bytes + host.share_tables_bytes);
  rows.push_back(
      {.name = "(ballastd)", .vm = nullptr, .rates = {}, .known = {{"CNSM", own}, {"OVHD", own}}});
  for (const Reservation& one : host.reservations) {
    rows.push_back({.name = "(reserved " + one.vm + ")",
                    .vm = nullptr,
                    .rates = {},
                    .known = {{"MEMSZ", static_cast<double>(one.configured_bytes)},
                              {"AMIN", static_cast<double>(one.min_bytes)}}});
  }
  return rows;
}

std::string trouble_of(const Row& row) {
  if (row.vm == nullptr) return "";
  const VmReport& vm = *row.vm;
  if (vm.lost_pages > 0) return "has lost a page";
  if (vm.state == "paused") return "is paused";
  if (vm.blocked) return "is blocked";
  if (row.rates && row.rates->waits > 0) return "waits for memory";
  if (row.rates && row.rates->swap_ins > 0) return "is swapping in";
  if (vm.balloon_state == "stuck") return "has a stuck balloon";
  return "";
}

}  // namespace ballast::top
