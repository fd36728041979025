#include "machine/sim/sim_world.h"

#include <fmt/core.h>

namespace ballast::machine::sim {

void SimWorld::note(std::string_view what, uint64_t a, uint64_t b, uint64_t c) {
  const auto mix = [this](uint64_t word) {
    hash_ = (hash_ ^ word) * 0x100000001b3 + (hash_ >> 29);
  };
  uint64_t name = 0;
  for (const char letter : what) name = name * 131 + static_cast<unsigned char>(letter);
  mix(name);
  mix(a);
  mix(b);
  mix(c);
  mix(now_);
  ++steps_;
  if (print_) fmt::print("{:>12} {:<10} {} {} {}\n", now_ / kMicrosecond, what, a, b, c);
}

}  // namespace ballast::machine::sim
