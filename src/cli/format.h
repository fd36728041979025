// Numbers as operators read them. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace ballast::cli {

// "256M", "1.5G", "0": at most five columns, and what --memory would take.
std::string compact_size(uint64_t bytes);
// "2560", "123456", "100m" (millions): at most six columns.
std::string compact_count(uint64_t count);
// "0", "0.3", "12", "45210", "1234k"; "-" when unknown.
std::string format_rate(std::optional<double> per_second);
// "39 %"; "-" of nothing.
std::string format_percent(uint64_t part, uint64_t whole);
// "850 ns", "12 us", "3.4 ms", "1.2 s".
std::string format_nanoseconds(uint64_t nanoseconds);
// "42 s", "3 min 5 s", "2 h 10 min", "5 d 3 h".
std::string format_uptime(uint64_t nanoseconds);
// Local time, "2026-03-01 23:59:58".
std::string format_time(uint64_t unix_ms);

}  // namespace ballast::cli
