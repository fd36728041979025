// Demand: what one guest wants over time, as if it had been recorded: the same for every rule that
// is compared. Bytes and seconds are plain numbers here: in a step of the fluid simulator a
// fraction of a page may move.
#pragma once

#include <cstdint>
#include <vector>

namespace ballast::simulator::fluid {

using Bytes = double;
inline constexpr Bytes kMb = 1024.0 * 1024;
inline constexpr Bytes kGb = 1024 * kMb;

inline Bytes to_bytes(uint64_t count) { return static_cast<Bytes>(count); }
// Rounded down to whole bytes; what is below zero by rounding is zero.
inline uint64_t to_count(Bytes bytes) { return bytes > 0 ? static_cast<uint64_t>(bytes) : 0; }

struct DemandPoint {
  double at = 0;      // seconds since the start of the recording
  Bytes used = 0;     // memory that the guest has in use, its page cache not counted
  double active = 0;  // the part of it, 0 … 1, that it touches all the time
  Bytes cache = 0;    // page cache that it would like to keep
};

class Demand {
 public:
  Demand() = default;
  // In order of time; two points at the same time are a jump. At least one.
  explicit Demand(std::vector<DemandPoint> points);
  // Linear between the points, constant before the first and after the last.
  DemandPoint at(double seconds) const;
  const std::vector<DemandPoint>& points() const { return points_; }

 private:
  std::vector<DemandPoint> points_;
};

}  // namespace ballast::simulator::fluid
