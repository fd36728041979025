// ballast-solver-bench: what computing the targets costs, for 10, 100 and 1000 VMs.
#include <benchmark/benchmark.h>

#include <vector>

#include "base/random.h"
#include "engine/policy/shares.h"

namespace ballast::engine {
namespace {

constexpr uint64_t kMb = uint64_t{1} << 20;

// VMs of all sizes, with any activity, on a host that has half of what they could use.
void solve(benchmark::State& state, bool variable) {
  Random random(1);
  std::vector<Claim> claims;
  uint64_t wanted = 0;
  for (int64_t i = 0; i < state.range(0); ++i) {
    const uint64_t size_mb = random.between(1, 64) * 512;
    const uint64_t size = size_mb * kMb;
    claims.push_back({.shares = static_cast<double>(random.between(1, 8) * size_mb),
                      .active_bytes = size / 1000 * random.below(1000),
                      .min_bytes = size / 8 * random.below(4),
                      .max_bytes = size - random.below(1000) * 4096});
    wanted += claims.back().max_bytes;
  }
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        solve_targets(wanted / 2, claims, {.rate = 0.75, .variable = variable}));
  }
}

BENCHMARK_CAPTURE(solve, flat, false)->RangeMultiplier(10)->Range(10, 1000);
BENCHMARK_CAPTURE(solve, variable, true)->RangeMultiplier(10)->Range(10, 1000);

}  // namespace
}  // namespace ballast::engine

BENCHMARK_MAIN();
