#include "model/options.h"

#include <charconv>

namespace ballast {

namespace {

Result<uint32_t> number_within(std::string_view name, std::string_view value, uint32_t low,
                               uint32_t high) {
  uint32_t number = 0;
  const auto [end, problem] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (problem != std::errc() || end != value.data() + value.size() || number < low ||
      number > high) {
    return Error{fmt::format("{} = '{}' is refused: a whole number from {} to {} is needed", name,
                             value, low, high)};
  }
  return number;
}

}  // namespace

Status set_option(Options& options, std::string_view name, std::string_view value) {
  if (name == "Mem.MemZipEnable") {
    BALLAST_TRY(const uint32_t on, number_within(name, value, 0, 1));
    options.zip_enable = on == 1;
  } else if (name == "Mem.MemZipMaxPct") {
    BALLAST_TRY(options.zip_max_percent, number_within(name, value, 1, 100));
  } else if (name == "Mem.MemMinFreePct" || name == "Mem.MinFreePct") {
    BALLAST_TRY(options.min_free_percent, number_within(name, value, 0, 50));
  } else if (name == "Ballast.FaultSpinUs") {
    BALLAST_TRY(options.spin_us, number_within(name, value, 0, 1000));
  } else if (name == "Ballast.Victims") {
    if (value != "random" && value != "second-chance") {
      return Error{
          fmt::format("{} = '{}' is refused: random or second-chance is needed", name, value)};
    }
    options.victims = value == "random" ? VictimChoice::kRandom : VictimChoice::kSecondChance;
  } else {
    return Error{fmt::format(
        "unknown option '{}'; known are Mem.MemZipEnable, Mem.MemZipMaxPct, Mem.MemMinFreePct, "
        "Ballast.Victims, Ballast.FaultSpinUs",
        name)};
  }
  return Done{};
}

}  // namespace ballast
