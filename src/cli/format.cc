#include "cli/format.h"

#include <fmt/format.h>

#include <cmath>
#include <ctime>

namespace ballast::cli {

std::string compact_size(uint64_t bytes) {
  if (bytes == 0) return "0";
  constexpr char kUnits[] = "BKMGT";
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1023.5 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  const bool whole = value >= 99.95 || std::fabs(value - std::round(value)) < 0.05;
  return whole ? fmt::format("{:.0f}{}", value, kUnits[unit])
               : fmt::format("{:.1f}{}", value, kUnits[unit]);
}

std::string compact_count(uint64_t count) {
  if (count < 1'000'000) return std::to_string(count);
  const double millions = static_cast<double>(count) / 1e6;
  return millions < 99.95 ? fmt::format("{:.1f}m", millions) : fmt::format("{:.0f}m", millions);
}

std::string format_rate(std::optional<double> per_second) {
  if (!per_second) return "-";
  const double rate = *per_second;
  if (rate <= 0) return "0";
  if (rate < 9.95) return fmt::format("{:.1f}", rate);
  if (rate < 99999.5) return fmt::format("{:.0f}", rate);
  return fmt::format("{:.0f}k", rate / 1000);
}

std::string format_percent(uint64_t part, uint64_t whole) {
  if (whole == 0) return "-";
  return fmt::format("{:.0f} %", 100 * static_cast<double>(part) / static_cast<double>(whole));
}

std::string format_nanoseconds(uint64_t nanoseconds) {
  constexpr const char* kUnits[] = {"ns", "us", "ms", "s"};
  double value = static_cast<double>(nanoseconds);
  size_t unit = 0;
  while (value >= 999.5 && unit < 3) {
    value /= 1000;
    ++unit;
  }
  return unit == 0 || value >= 9.95 ? fmt::format("{:.0f} {}", value, kUnits[unit])
                                    : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string format_uptime(uint64_t nanoseconds) {
  const uint64_t seconds = nanoseconds / 1'000'000'000;
  if (seconds < 60) return fmt::format("{} s", seconds);
  if (seconds < 3600) return fmt::format("{} min {} s", seconds / 60, seconds % 60);
  if (seconds < 86400) return fmt::format("{} h {} min", seconds / 3600, seconds % 3600 / 60);
  return fmt::format("{} d {} h", seconds / 86400, seconds % 86400 / 3600);
}

std::string format_time(uint64_t unix_ms) {
  const auto seconds = static_cast<std::time_t>(unix_ms / 1000);
  std::tm parts{};
  char text[32];
  if (localtime_r(&seconds, &parts) == nullptr ||
      std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts) == 0) {
    return fmt::format("{} ms", unix_ms);
  }
  return text;
}

}  // namespace ballast::cli
