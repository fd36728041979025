// The columns of `ballast top`: names and meanings as in esxtop's memory screen; docs/man/ballast.1
// says what ours count. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/rates.h"
#include "cli/table.h"

namespace ballast::top {

// What one line of the table is about: a VM; or something else that takes memory, of which only a
// few numbers are known.
struct Row {
  struct Known {
    std::string_view field;  // its name
    double value;
  };
  std::string name;
  const VmReport* vm = nullptr;
  std::optional<cli::VmRates> rates;  // absent: not known (yet)
  std::vector<Known> known;           // where there is no VM
};

enum class Unit {
  kMegabytes,
  kMegabytesPerSecond,
  kPercent,
  kPerSecond,
  kMicroseconds,
  kCount,
  kText
};

struct Field {
  std::string_view name;  // the column's title
  std::string_view csv;   // its name in CSV: with the unit
  Unit unit;
  size_t width;  // columns; no value that can be is wider
  std::string_view meaning;
  // Of a VM, in bytes (per second), percent, or counts; absent: not known. Null for texts.
  std::optional<double> (*value)(const VmReport& vm, const std::optional<cli::VmRates>& rates);
  std::string (*text)(const VmReport& vm) = nullptr;  // for texts; "": not known
  // True: the value means that the VM suffers, or is about to.
  bool (*worries)(const VmReport& vm, const std::optional<cli::VmRates>& rates) = nullptr;
};

// All but the name, in the order in which they are offered.
std::span<const Field> all_fields();
const Field* find_field(std::string_view name);

// What is shown until the user chooses.
std::span<const std::string_view> default_fields();

// Of a row; absent: not known, or a text.
std::optional<double> value_of(const Field& field, const Row& row);
// As the screen shows it, at most field.width long; "-": not known.
std::string cell_text(const Field& field, const Row& row);
// As CSV shows it, without quotes: plain numbers in the unit that field.csv names; "": not known.
std::string csv_text(const Field& field, const Row& row);

// "0", "0.4", "12", "4096", "16384G": seven columns at most.
std::string megabytes(double bytes);

}  // namespace ballast::top
