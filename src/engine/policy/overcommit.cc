#include "engine/policy/overcommit.h"

#include <algorithm>
#include <cmath>

namespace ballast::engine {

void Overcommit::see(uint64_t wanted_bytes, uint64_t divided_bytes, Nanoseconds now) {
  const Nanoseconds elapsed = last_ == 0 || now <= last_ ? 0 : now - last_;
  const bool first = last_ == 0;
  last_ = std::max<Nanoseconds>({last_, now, 1});
  if (!first && elapsed == 0) return;
  const auto wanted = static_cast<double>(wanted_bytes);
  const auto divided = static_cast<double>(std::max<uint64_t>(divided_bytes, 1));
  const double ratio = std::max(0.0, wanted / divided - 1);
  for (Average& average : averages_) {
    // The first look has lasted no time yet; it counts as a millisecond, to be worth something.
    const auto lasted = static_cast<double>(first ? kMillisecond : elapsed);
    const double keep = std::exp(-lasted / static_cast<double>(average.time));
    average.sum = keep * average.sum + (1 - keep) * ratio;
    average.weight = keep * average.weight + (1 - keep);
  }
}

Overcommit::Averages Overcommit::averages() const {
  const auto percent = [](const Average& average) {
    if (average.weight <= 0) return uint64_t{0};
    // Bounded: a host whose budget is all its own tables wants infinitely much.
    return static_cast<uint64_t>(std::llround(std::min(100 * average.sum / average.weight, 1e9)));
  };
  return {percent(averages_[0]), percent(averages_[1]), percent(averages_[2])};
}

}  // namespace ballast::engine
