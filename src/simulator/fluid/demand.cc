#include "simulator/fluid/demand.h"

#include <algorithm>

#include "base/check.h"

namespace ballast::simulator::fluid {

Demand::Demand(std::vector<DemandPoint> points) : points_(std::move(points)) {
  BALLAST_CHECK(!points_.empty());
  BALLAST_CHECK(std::ranges::is_sorted(points_, {}, &DemandPoint::at));
}

DemandPoint Demand::at(double seconds) const {
  // After a jump: of two points at the same time the later one counts.
  const auto next = std::ranges::upper_bound(points_, seconds, {}, &DemandPoint::at);
  if (next == points_.begin()) return points_.front();
  const DemandPoint& before = *(next - 1);
  if (next == points_.end()) return before;
  const double part = (seconds - before.at) / (next->at - before.at);
  const auto between = [&](double from, double to) { return from + part * (to - from); };
  return {seconds, between(before.used, next->used), between(before.active, next->active),
          between(before.cache, next->cache)};
}

}  // namespace ballast::simulator::fluid
