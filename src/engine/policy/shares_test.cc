#include "engine/policy/shares.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>

#include "base/units.h"

namespace ballast::engine {
namespace {

constexpr uint64_t kMb = uint64_t{1} << 20;
constexpr uint64_t kGb = uint64_t{1} << 30;
constexpr uint64_t kMost = ~uint64_t{0};
constexpr Tax kNoTax{.rate = 0, .variable = false};
constexpr Tax kFlat{.rate = 0.75, .variable = false};
constexpr Tax kVariable{.rate = 0.75, .variable = true};

using Targets = std::vector<uint64_t>;

Claim claim_mb(double shares, uint64_t active, uint64_t min, uint64_t max) {
  return {shares, active * kMb, min * kMb, max * kMb};
}

std::vector<double> in_mb(const Targets& targets) {
  std::vector<double> result;
  for (const uint64_t target : targets) {
    result.push_back(static_cast<double>(target) / static_cast<double>(kMb));
  }
  return result;
}

void expect_mb(uint64_t memory_mb, const std::vector<Claim>& claims, const Tax& tax,
               const std::vector<double>& expected) {
  const auto got = in_mb(solve_targets(memory_mb * kMb, claims, tax));
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_NEAR(got[i], expected[i], 1.0 / 256) << "VM " << i;  // a page
  }
}

uint64_t sum(const Targets& targets) {
  return std::accumulate(targets.begin(), targets.end(), uint64_t{0});
}

// --- price

TEST(Price, IsThePapersFormula) {
  // ρ = S / (P · (f + k · (1 − f))), k = 4: 1000 / (100 · (0.4 + 4 · 0.6))
  EXPECT_DOUBLE_EQ(price({1000, 40, 0, 0}, 100, kFlat), 1000 / 280.0);
  EXPECT_DOUBLE_EQ(price({1000, 40, 0, 0}, 100, kNoTax), 10);
  EXPECT_DOUBLE_EQ(price({1000, 100, 0, 0}, 100, kFlat), 10);
  EXPECT_DOUBLE_EQ(price({1000, 500, 0, 0}, 100, kFlat), 10);  // active above what it holds
  EXPECT_DOUBLE_EQ(price({1000, 0, 0, 0}, 100, kFlat), 2.5);
}

TEST(Price, VariableTaxGrowsWithTheIdlePart) {
  // f = 0.4: rate 0.75 · 0.6 = 0.45, k = 1 / 0.55
  EXPECT_DOUBLE_EQ(price({1000, 40, 0, 0}, 100, kVariable), 1000 / (40 + 60 / 0.55));
  EXPECT_DOUBLE_EQ(price({1000, 100, 0, 0}, 100, kVariable), 10);  // f = 1: no tax
  EXPECT_DOUBLE_EQ(price({1000, 0, 0, 0}, 100, kVariable), 2.5);   // f = 0: all of it
}

// --- cases computed by hand

TEST(SolveTargets, Figure7WithoutTax) {
  expect_mb(358, {claim_mb(1, 30, 0, 256), claim_mb(1, 256, 0, 256)}, kNoTax, {179, 179});
}

TEST(SolveTargets, Figure7WithTax) {
  // 30 + 4 · (P1 − 30) = P2 would give VM 2 more than it can use.
  expect_mb(358, {claim_mb(1, 30, 0, 256), claim_mb(1, 256, 0, 256)}, kFlat, {102, 256});
}

TEST(SolveTargets, Figure7WithTaxAndRoom) {
  expect_mb(358, {claim_mb(1, 30, 0, 512), claim_mb(1, 512, 0, 512)}, kFlat, {89.6, 268.4});
}

TEST(SolveTargets, VariableTax) {
  // VM 1 at 60 MB is half idle: rate 0.375, cost 30 + 30 / 0.625 = 78.
  expect_mb(138, {claim_mb(1, 30, 0, 512), claim_mb(1, 512, 0, 512)}, kVariable, {60, 78});
  // Nothing active: the flat tax, on everybody alike.
  expect_mb(100, {claim_mb(1, 0, 0, 512), claim_mb(1, 512, 0, 512)}, kVariable, {20, 80});
  expect_mb(100, {claim_mb(1, 0, 0, 512), claim_mb(1, 512, 0, 512)}, kFlat, {20, 80});
  expect_mb(100, {claim_mb(1, 0, 0, 512), claim_mb(3, 0, 0, 512)}, kVariable, {25, 75});
  // Everything active: no tax.
  expect_mb(100, {claim_mb(1, 512, 0, 512), claim_mb(3, 512, 0, 512)}, kVariable, {25, 75});
}

TEST(SolveTargets, FollowShares) {
  for (const Tax& tax : {kNoTax, kFlat, kVariable}) {
    expect_mb(300, {claim_mb(2, 512, 0, 512), claim_mb(1, 512, 0, 512)}, tax, {200, 100});
    expect_mb(300, {claim_mb(2, 0, 0, 512), claim_mb(1, 0, 0, 512)}, tax, {200, 100});
  }
}

TEST(SolveTargets, MinsHoldUpAndMaxesLeaveTheRestToOthers) {
  expect_mb(300, {claim_mb(1, 0, 200, 512), claim_mb(1, 0, 0, 512)}, kNoTax, {200, 100});
  expect_mb(300, {claim_mb(1, 0, 0, 50), claim_mb(1, 0, 0, 512), claim_mb(1, 0, 0, 512)}, kNoTax,
            {50, 125, 125});
  expect_mb(300, {claim_mb(1, 0, 0, 50), claim_mb(1, 0, 0, 60)}, kNoTax, {50, 60});
  expect_mb(300, {claim_mb(1, 0, 200, 512), claim_mb(1, 0, 201, 512)}, kNoTax, {200, 201});
  expect_mb(401, {claim_mb(1, 0, 200, 512), claim_mb(1, 0, 201, 512)}, kNoTax, {200, 201});
}

TEST(SolveTargets, SharesOfAnySize) {
  expect_mb(300, {claim_mb(1e-300, 0, 0, 512), claim_mb(1e300, 0, 0, 256)}, kFlat, {44, 256});
  expect_mb(300, {claim_mb(1e-9, 9, 7, 512), claim_mb(1e12, 9, 0, 512)}, kVariable, {7, 293});
}

TEST(SolveTargets, NobodyAndNothing) {
  EXPECT_TRUE(solve_targets(1 * kGb, {}, kVariable).empty());
  EXPECT_TRUE(solve_targets(0, {}, kVariable).empty());
  const std::vector<Claim> claims = {claim_mb(1, 10, 0, 512), claim_mb(1, 0, 5, 5), {1, 0, 0, 0}};
  EXPECT_EQ(solve_targets(0, claims, kVariable), (Targets{0, 5 * kMb, 0}));
  EXPECT_EQ(solve_targets(4095, claims, kVariable), (Targets{0, 5 * kMb, 0}));
}

TEST(SolveTargets, EnormousSizes) {
  const std::vector<Claim> claims = {
      {1, kMost, 0, kMost}, {3, 0, 0, kMost}, {1, 7, kMost / 8, kMost}};
  for (const Tax& tax : {kNoTax, kFlat, kVariable}) {
    EXPECT_EQ(pages_floor(sum(solve_targets(kMost, claims, tax))), pages_floor(kMost));
    const std::vector<Claim> two = {claim_mb(1, 30, 0, 256), claim_mb(1, 256, 0, 256)};
    EXPECT_EQ(solve_targets(kMost, two, tax), (Targets{256 * kMb, 256 * kMb}));
  }
}

TEST(SolveTargets, PartsOfPages) {
  // Min up, max down; min wins where both lie in one page.
  EXPECT_EQ(solve_targets(0, std::vector<Claim>{{1, 0, 1, 9999}}, kNoTax), (Targets{4096}));
  EXPECT_EQ(solve_targets(kGb, std::vector<Claim>{{1, 0, 1, 9999}}, kNoTax), (Targets{8192}));
  EXPECT_EQ(solve_targets(kGb, std::vector<Claim>{{1, 0, 5000, 5000}}, kNoTax), (Targets{8192}));
}

TEST(SolveTargets, EqualsDifferByOnePageAtMost) {
  const std::vector<Claim> claims(3, claim_mb(1, 1, 0, 512));
  for (const Tax& tax : {kNoTax, kFlat, kVariable}) {
    EXPECT_EQ(solve_targets(11 * 4096, claims, tax), (Targets{4 * 4096, 4 * 4096, 3 * 4096}));
  }
}

TEST(SolveTargets, AtTheSamePriceMoreSharesGoFirst) {
  // The first page of one costs what the second of the other does.
  const Claim one{1, 0, 0, kMb};
  const Claim two{2, 0, 0, kMb};
  EXPECT_EQ(solve_targets(8192, std::vector{one, two}, kNoTax), (Targets{0, 8192}));
  EXPECT_EQ(solve_targets(8192, std::vector{two, one}, kNoTax), (Targets{8192, 0}));
}

TEST(SolveTargets, EverybodyHasHisMaxWhenThereIsEnough) {
  const std::vector<Claim> claims = {claim_mb(1, 0, 0, 7), claim_mb(5, 9, 3, 8), {1, 0, 0, 0}};
  for (const Tax& tax : {kNoTax, kFlat, kVariable}) {
    EXPECT_EQ(solve_targets(15 * kMb, claims, tax), (Targets{7 * kMb, 8 * kMb, 0}));
    EXPECT_EQ(solve_targets(16 * kMb, claims, tax), (Targets{7 * kMb, 8 * kMb, 0}));
    EXPECT_EQ(sum(solve_targets(15 * kMb - 1, claims, tax)), 15 * kMb - 4096);
  }
}

// --- properties

Tax any_tax() {
  const double rate = *rc::gen::element(0.0, 0.05, 0.5, 0.75, 0.99);
  return {.rate = rate, .variable = *rc::gen::arbitrary<bool>()};
}

Claim any_claim() {
  Claim claim;
  claim.shares = static_cast<double>(*rc::gen::oneOf(rc::gen::inRange<uint64_t>(1, 4),
                                                     rc::gen::inRange<uint64_t>(1, 20'000),
                                                     rc::gen::inRange<uint64_t>(1, 1'000'000'000)));
  // In pages of 4096, and small enough that single pages matter; sometimes not in whole pages.
  const auto top = *rc::gen::element<uint64_t>(20, 5'000, 1'000'000, 400'000'000);
  claim.max_bytes = *rc::gen::inRange<uint64_t>(0, top) * 4096;
  claim.min_bytes = *rc::gen::element<uint64_t>(0, 0, 1, 2, 7) * claim.max_bytes / 64 / 4096 * 4096;
  claim.active_bytes = *rc::gen::inRange<uint64_t>(0, claim.max_bytes + claim.max_bytes / 4 + 1);
  if (*rc::gen::inRange(0, 4) == 0) claim.active_bytes = 0;
  return claim;
}

// Few pages and round shares: many would pay the same for their next page.
Claim any_small_claim() {
  Claim claim;
  claim.shares = *rc::gen::element(1.0, 2.0, 3.0);
  claim.max_bytes = *rc::gen::inRange<uint64_t>(0, 24) * 4096;
  claim.min_bytes = std::min(claim.max_bytes, *rc::gen::element<uint64_t>(0, 0, 4096, 20'480));
  claim.active_bytes = *rc::gen::element<uint64_t>(0, 12'288, 200'000);
  return claim;
}

std::vector<Claim> any_claims(size_t at_least = 0) {
  std::vector<Claim> claims(*rc::gen::inRange<size_t>(at_least, 10));
  const bool small = *rc::gen::arbitrary<bool>();
  for (Claim& claim : claims) claim = small ? any_small_claim() : any_claim();
  return claims;
}

uint64_t sum_of_max(const std::vector<Claim>& claims) {
  uint64_t total = 0;
  for (const Claim& claim : claims) total += claim.max_bytes;
  return total;
}

// Mostly too little for all and enough for the mins.
uint64_t any_memory(const std::vector<Claim>& claims) {
  return *rc::gen::inRange<uint64_t>(0, sum_of_max(claims) + sum_of_max(claims) / 8 + 8192);
}

RC_GTEST_PROP(SolveTargetsProperty, GivesOutAllMemoryToThePageWithinBounds, ()) {
  std::vector<Claim> claims = any_claims();
  for (Claim& claim : claims) {
    if (*rc::gen::inRange(0, 4) == 0) claim.max_bytes += *rc::gen::inRange<uint64_t>(0, 4096);
    if (*rc::gen::inRange(0, 4) == 0) claim.min_bytes = claim.max_bytes;
  }
  const uint64_t memory = any_memory(claims);
  const Targets targets = solve_targets(memory, claims, any_tax());
  RC_ASSERT(targets.size() == claims.size());
  uint64_t mins = 0;
  uint64_t maxes = 0;
  for (size_t i = 0; i < claims.size(); ++i) {
    const uint64_t min = pages_to_bytes(pages_ceil(claims[i].min_bytes));
    const uint64_t max = std::max(min, pages_to_bytes(pages_floor(claims[i].max_bytes)));
    RC_ASSERT(targets[i] % 4096 == 0u);
    RC_ASSERT(targets[i] >= min);
    RC_ASSERT(targets[i] <= max);
    mins += min;
    maxes += max;
  }
  const uint64_t whole = pages_to_bytes(pages_floor(memory));
  RC_ASSERT(sum(targets) == std::max(mins, std::min(whole, maxes)));
}

RC_GTEST_PROP(SolveTargetsProperty, PricesOfAllWhoAreNotAtABoundAreEqual, ()) {
  const std::vector<Claim> claims = any_claims();
  const Tax tax = any_tax();
  const Targets targets = solve_targets(any_memory(claims), claims, tax);
  // Nobody could give a page to somebody who would pay more for it than the giver pays.
  for (size_t i = 0; i < claims.size(); ++i) {
    for (size_t j = 0; j < claims.size(); ++j) {
      if (targets[i] == claims[i].min_bytes || targets[j] == claims[j].max_bytes) continue;
      const double paid = price(claims[i], static_cast<double>(targets[i]), tax);
      const double offered = price(claims[j], static_cast<double>(targets[j] + 4096), tax);
      RC_ASSERT(paid >= offered * (1 - 1e-9));
    }
  }
}

RC_GTEST_PROP(SolveTargetsProperty, WithoutTaxPagesAreProportionalToShares, ()) {
  const std::vector<Claim> claims = any_claims();
  const Targets targets =
      solve_targets(any_memory(claims), claims, {0, *rc::gen::arbitrary<bool>()});
  for (size_t i = 0; i < claims.size(); ++i) {
    for (size_t j = 0; j < claims.size(); ++j) {
      if (targets[i] == claims[i].max_bytes || targets[j] == claims[j].min_bytes) continue;
      // i could have more and j less: j has no more per share than i, to a page each.
      const double per_share = static_cast<double>(targets[i] + 4096) / claims[i].shares;
      RC_ASSERT(static_cast<double>(targets[j]) / claims[j].shares <= per_share * (1 + 1e-9));
    }
  }
}

RC_GTEST_PROP(SolveTargetsProperty, MoreMemoryTakesFromNobody, ()) {
  const std::vector<Claim> claims = any_claims();
  const Tax tax = any_tax();
  const uint64_t memory = any_memory(claims);
  const uint64_t more = memory + *rc::gen::oneOf(rc::gen::inRange<uint64_t>(0, 20'000),
                                                 rc::gen::inRange<uint64_t>(0, kGb));
  const Targets before = solve_targets(memory, claims, tax);
  const Targets after = solve_targets(more, claims, tax);
  for (size_t i = 0; i < claims.size(); ++i) RC_ASSERT(after[i] >= before[i]);
}

RC_GTEST_PROP(SolveTargetsProperty, MoreSharesNeverHurtOneselfNorHelpOthers, ()) {
  std::vector<Claim> claims = any_claims(1);
  const Tax tax = any_tax();
  const uint64_t memory = any_memory(claims);
  const Targets before = solve_targets(memory, claims, tax);
  const auto who = *rc::gen::inRange<size_t>(0, claims.size());
  claims[who].shares *= *rc::gen::element(1.0000001, 1.01, 2.0, 1000.0);
  const Targets after = solve_targets(memory, claims, tax);
  for (size_t i = 0; i < claims.size(); ++i) {
    RC_ASSERT((i == who ? after[i] >= before[i] : after[i] <= before[i]));
  }
}

RC_GTEST_PROP(SolveTargetsProperty, TheTaxNeverTakesActiveMemory, ()) {
  const std::vector<Claim> claims = any_claims();
  const Tax tax = any_tax();
  const uint64_t memory = any_memory(claims);
  const Targets untaxed = solve_targets(memory, claims, kNoTax);
  const Targets taxed = solve_targets(memory, claims, tax);
  for (size_t i = 0; i < claims.size(); ++i) {
    // Pages that are partly active count as idle; the untaxed part may contain the odd page of the
    // rest, which goes elsewhere when prices change.
    const uint64_t active = pages_to_bytes(pages_floor(claims[i].active_bytes));
    RC_ASSERT(taxed[i] + 4096 >= std::min(active, untaxed[i]));
    if (claims[i].active_bytes >= untaxed[i]) RC_ASSERT(taxed[i] + 4096 >= untaxed[i]);
  }
}

RC_GTEST_PROP(SolveTargetsProperty, TheOrderOfVmsDoesNotMatter, ()) {
  const std::vector<Claim> claims = any_claims();
  const Tax tax = any_tax();
  const uint64_t memory = any_memory(claims);
  std::vector<size_t> order(claims.size());
  std::iota(order.begin(), order.end(), size_t{0});
  for (size_t i = order.size(); i > 1; --i) {
    std::swap(order[i - 1], order[*rc::gen::inRange<size_t>(0, i)]);
  }
  std::vector<Claim> shuffled;
  shuffled.reserve(order.size());
  for (const size_t i : order) shuffled.push_back(claims[i]);

  // Sorted together with the claims: which one of two equal VMs gets an odd page may change.
  const auto sorted = [&](const std::vector<Claim>& vms) {
    const Targets targets = solve_targets(memory, vms, tax);
    std::vector<std::tuple<double, uint64_t, uint64_t, uint64_t, uint64_t>> result;
    for (size_t i = 0; i < vms.size(); ++i) {
      const Claim& vm = vms[i];
      result.emplace_back(vm.shares, vm.active_bytes, vm.min_bytes, vm.max_bytes, targets[i]);
    }
    std::sort(result.begin(), result.end());
    return result;
  };
  RC_ASSERT(sorted(shuffled) == sorted(claims));
}

// The definition, carried out: each page to whoever pays most for his next one.
RC_GTEST_PROP(SolveTargetsProperty, AreWhatMinFundingConvergesTo, ()) {
  std::vector<Claim> claims(*rc::gen::inRange<size_t>(1, 5));
  for (Claim& claim : claims) {
    claim.shares = static_cast<double>(*rc::gen::inRange(1, 50));
    claim.max_bytes = *rc::gen::inRange<uint64_t>(0, 60) * 4096;
    claim.min_bytes = *rc::gen::inRange<uint64_t>(0, 10) * 4096;
    claim.max_bytes = std::max(claim.max_bytes, claim.min_bytes);
    claim.active_bytes = *rc::gen::inRange<uint64_t>(0, 60) * 4096;
  }
  const Tax tax = any_tax();
  const uint64_t memory = any_memory(claims);
  Targets expected;
  for (const Claim& claim : claims) expected.push_back(claim.min_bytes);
  while (sum(expected) + 4096 <= memory) {
    size_t best = claims.size();
    double best_price = 0;
    for (size_t i = 0; i < claims.size(); ++i) {
      if (expected[i] == claims[i].max_bytes) continue;
      const double offered = price(claims[i], static_cast<double>(expected[i] + 4096), tax);
      if (offered > best_price) std::tie(best, best_price) = std::tie(i, offered);
    }
    if (best == claims.size()) break;
    expected[best] += 4096;
  }
  const Targets got = solve_targets(memory, claims, tax);
  RC_ASSERT(sum(got) == sum(expected));
  for (size_t i = 0; i < claims.size(); ++i) {
    // Equal prices may go either way.
    RC_ASSERT(std::max(got[i], expected[i]) - std::min(got[i], expected[i]) <= 4096);
  }
}

}  // namespace
}  // namespace ballast::engine
