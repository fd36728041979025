// Shares: who should have how much. Pure arithmetic: numbers in, numbers out; no clock, no state.
//
// ESX's allocation (Waldspurger, OSDI 2002, section 5): a client with S shares that holds P pages,
// of which the fraction f is active, pays the price
//
//     ρ = S / (P · (f + k · (1 − f))),     k = 1 / (1 − τ),     0 ≤ τ < 1
//
// for a page; memory is revoked from whoever pays least (min-funding revocation), so that in
// equilibrium all who are neither at their min nor at their max pay the same. The solver computes
// that equilibrium at once instead of moving page by page. τ = 0 is pure proportional sharing;
// an idle page costs k times what an active one costs.
//
// With the variable tax (ESX since resource pools; its formula is unpublished, ours is
// docs/adr/0010) the rate of a VM is τ · (1 − f): it grows with the idle part.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ballast::engine {

struct Tax {
  double rate = 0.75;  // τ, 0 ≤ τ < 1
  bool variable = true;
};

// One VM as the solver sees it; bytes of machine memory, overhead included everywhere.
struct Claim {
  double shares = 1;          // > 0, finite
  uint64_t active_bytes = 0;  // never taxed; may exceed max_bytes
  uint64_t min_bytes = 0;     // ≤ max_bytes
  uint64_t max_bytes = 0;     // what it could use at most: limit, size, and what it wants
};

// What one byte costs `claim` in shares when it holds `bytes` (> 0): ρ.
double price(const Claim& claim, double bytes, const Tax& tax);

// The targets, in whole pages: min (rounded up) ≤ target ≤ max (rounded down, but not below min),
// and the sum is `memory_bytes` (rounded down), or less when all have their max, or the sum of the
// mins when that is more.
//
// The same as handing out page after page to whoever pays most for his next one, and therefore
// monotone to the page: more memory, or more shares of one's own, never lower one's target; more
// shares of another never raise it. Between equals more shares go first, then smaller active, min,
// max, then the earlier one: deterministic. O(n) per step of a bisection of at most 64 steps.
std::vector<uint64_t> solve_targets(uint64_t memory_bytes, std::span<const Claim> claims,
                                    const Tax& tax);

}  // namespace ballast::engine
