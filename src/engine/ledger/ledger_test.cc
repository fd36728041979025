#include "engine/ledger/ledger.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "base/random.h"

namespace ballast::engine {
namespace {

TEST(Ledger, ChargesUpToTheBudgetAndNotOneByteMore) {
  Ledger ledger(1000);
  EXPECT_TRUE(ledger.try_charge(600));
  EXPECT_FALSE(ledger.try_charge(401));
  EXPECT_TRUE(ledger.try_charge(400));
  EXPECT_FALSE(ledger.try_charge(1));
  EXPECT_TRUE(ledger.try_charge(0));
  EXPECT_EQ(ledger.free(), 0u);
  ledger.uncharge(1000);
  EXPECT_EQ(ledger.consumed(), 0u);
  EXPECT_EQ(ledger.peak(), 1000u);
}

TEST(Ledger, ReserveIsForReclaim) {
  Ledger ledger(1000);
  ledger.set_thresholds(100, {});
  EXPECT_FALSE(ledger.try_charge(901));
  EXPECT_TRUE(ledger.try_charge(900));
  EXPECT_FALSE(ledger.try_charge(1));
  EXPECT_FALSE(ledger.try_charge_for_reclaim(101));
  EXPECT_TRUE(ledger.try_charge_for_reclaim(100));
  EXPECT_EQ(ledger.consumed(), 1000u);
}

TEST(Ledger, AReserveAboveTheBudgetLeavesNothingToGuests) {
  Ledger ledger(1000);
  ledger.set_thresholds(1001, {});
  EXPECT_FALSE(ledger.try_charge(1));
  EXPECT_TRUE(ledger.try_charge_for_reclaim(1));
}

TEST(Ledger, HugeChargesDoNotWrap) {
  Ledger ledger(1000);
  EXPECT_TRUE(ledger.try_charge(500));
  EXPECT_FALSE(ledger.try_charge(~uint64_t{0}));
  EXPECT_FALSE(ledger.try_charge(~uint64_t{0} - 400));
  EXPECT_EQ(ledger.consumed(), 500u);
}

TEST(Ledger, WhatExistsIsChargedEvenAboveTheBudget) {
  Ledger ledger(1000);
  ledger.charge_existing(1500);
  EXPECT_EQ(ledger.consumed(), 1500u);
  EXPECT_EQ(ledger.free(), 0u);
  EXPECT_FALSE(ledger.try_charge(1));
  EXPECT_FALSE(ledger.try_charge_for_reclaim(1));
  ledger.uncharge(1400);
  EXPECT_TRUE(ledger.try_charge(900));
}

TEST(LedgerDeathTest, GivingBackMoreThanWasTakenIsABug) {
  Ledger ledger(1000);
  ASSERT_TRUE(ledger.try_charge(10));
  EXPECT_DEATH(ledger.uncharge(11), "consumed 10 uncharged 11");
}

Thresholds test_thresholds() {
  Thresholds thresholds;
  thresholds.enter = {900, 500, 300, 200, 100};
  thresholds.leave = {900, 600, 350, 225, 125};
  return thresholds;
}

TEST(Ledger, TheStateFollowsFreeMemoryAndItsChangesAreTold) {
  Ledger ledger(1000);
  int calls = 0;
  ledger.set_pressure_hook([&] { ++calls; });
  ledger.set_thresholds(0, test_thresholds());
  EXPECT_TRUE(ledger.try_charge(500));
  EXPECT_EQ(ledger.state(), HostState::kHigh);
  EXPECT_EQ(calls, 0);  // 500 free: not below the line yet
  EXPECT_TRUE(ledger.try_charge(1));
  EXPECT_EQ(ledger.state(), HostState::kClear);
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(ledger.try_charge(100));
  EXPECT_EQ(calls, 1);                  // told once
  EXPECT_TRUE(ledger.try_charge(300));  // 99 free
  EXPECT_EQ(ledger.state(), HostState::kLow);
  EXPECT_EQ(calls, 2);
  EXPECT_FALSE(ledger.try_charge(200));
  EXPECT_EQ(calls, 3);
  ledger.uncharge(600);  // 699 free: upwards one state at a time
  EXPECT_EQ(ledger.state(), HostState::kHard);
  EXPECT_EQ(calls, 4);
  for (int i = 0; i < 5; ++i) ledger.follow_free();
  EXPECT_EQ(ledger.state(), HostState::kHigh);
  EXPECT_EQ(ledger.stop_level(), 350u);
}

TEST(Ledger, ThreadsTogetherNeverExceedTheBudget) {
  constexpr uint64_t kBudget = 100'000;
  Ledger ledger(kBudget);
  Thresholds thresholds;
  thresholds.enter = {60'000, 30'000, 20'000, 10'000, 6'000};
  thresholds.leave = {60'000, 35'000, 22'000, 12'000, 7'000};
  ledger.set_thresholds(5'000, thresholds);
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> worst = 0;
  std::thread watcher([&] {
    while (!stop) worst = std::max<uint64_t>(worst, ledger.consumed());
  });
  std::vector<std::thread> workers;
  std::atomic<uint64_t> refused = 0;
  for (uint32_t seed = 0; seed < 4; ++seed) {
    workers.emplace_back([&, seed] {
      Random random(seed);
      uint64_t mine = 0;
      for (int i = 0; i < 50'000; ++i) {
        const uint64_t bytes = 1 + random.below(30'000);
        if (mine > 0 && random.chance(400)) {
          const uint64_t back = std::min(mine, bytes);
          ledger.uncharge(back);
          mine -= back;
        } else if (random.chance(200) ? ledger.try_charge_for_reclaim(bytes)
                                      : ledger.try_charge(bytes)) {
          mine += bytes;
        } else {
          ++refused;
        }
      }
      ledger.uncharge(mine);
    });
  }
  for (auto& worker : workers) worker.join();
  stop = true;
  watcher.join();
  EXPECT_EQ(ledger.consumed(), 0u);
  EXPECT_LE(worst, kBudget);
  EXPECT_LE(ledger.peak(), kBudget);
  EXPECT_GE(ledger.peak(), worst);
  EXPECT_GT(refused, 0u);
}

}  // namespace
}  // namespace ballast::engine
