#include "base/units.h"

#include <cctype>
#include <charconv>
#include <cmath>

namespace ballast {

namespace {

Error bad_size(std::string_view text) {
  return Error{fmt::format(
      "'{}' is not a size; write a number with K, M, G or T behind it, for example 512M or 1.5G",
      text)};
}

// The power of 1024 that a suffix such as "", "K", "MB" or "GiB" stands for; −1 if it is none.
int suffix_power(std::string_view suffix) {
  if (suffix.empty() || suffix == "B" || suffix == "b") return 0;
  const std::string_view letters = "KMGT";
  const auto power =
      letters.find(static_cast<char>(std::toupper(static_cast<unsigned char>(suffix[0]))));
  if (power == std::string_view::npos) return -1;
  const std::string_view rest = suffix.substr(1);
  if (!rest.empty() && rest != "B" && rest != "iB" && rest != "b") return -1;
  return static_cast<int>(power) + 1;
}

}  // namespace

Result<uint64_t> parse_size(std::string_view text) {
  double number = 0;
  const char* end = text.data() + text.size();
  const auto [stop, problem] = std::from_chars(text.data(), end, number, std::chars_format::fixed);
  if (problem != std::errc() || number < 0) return bad_size(text);
  const int power = suffix_power({stop, static_cast<size_t>(end - stop)});
  if (power < 0) return bad_size(text);
  const double bytes = std::floor(number * std::pow(1024.0, power));
  if (!(bytes < 0x1p62)) return bad_size(text);
  return static_cast<uint64_t>(bytes);
}

std::string format_size(uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  const bool whole = unit == 0 || value >= 99.95 || value == std::floor(value);
  return whole ? fmt::format("{:.0f} {}", value, kUnits[unit])
               : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

}  // namespace ballast
