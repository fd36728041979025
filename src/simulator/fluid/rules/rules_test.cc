// Each peer's rule against what is published about it.
#include <gtest/gtest.h>

#include "simulator/fluid/demand.h"
#include "simulator/fluid/rules/peers.h"

namespace ballast::simulator::fluid {
namespace {

constexpr uint64_t kMib = uint64_t{1} << 20;
constexpr uint64_t kGib = 1024 * kMib;

VmSeen vm_seen(std::string name, uint64_t configured, uint64_t left, uint64_t guest_free) {
  VmSeen vm;
  vm.name = std::move(name);
  vm.configured_bytes = configured;
  vm.consumed_bytes = vm.resident_bytes = left - guest_free;
  vm.balloon.link = machine::BalloonView::Link::kReady;
  vm.balloon.actual_bytes = left;
  vm.balloon.stats = machine::GuestStats{.free_bytes = guest_free};
  return vm;
}

// Memory that the order leaves the guest.
uint64_t left(const VmSeen& vm, const Order& order) {
  return vm.configured_bytes - order.balloon_bytes.value_or(0);
}

TEST(Proxmox, ShrinksTowards80PercentBy100MibAStepAndTheEasyOnesFirst) {
  ProxmoxRule rule;
  const std::vector<VmSeen> vms = {vm_seen("idle", 4 * kGib, 4 * kGib, 3 * kGib),
                                   vm_seen("pressed", 4 * kGib, 4 * kGib, 100 * kMib)};
  std::vector<Order> orders(2);
  // 150 MiB too much are in use.
  HostSeen host{.now = kSecond, .memory_bytes = 10 * kGib, .free_bytes = 2 * kGib - 150 * kMib};
  rule.act(host, vms, orders);
  EXPECT_NEAR(to_bytes(left(vms[0], orders[0])), (4096 - 100) * kMb, kMb);
  EXPECT_NEAR(to_bytes(left(vms[1], orders[1])), (4096 - 50) * kMb, 2 * kMb);
  orders.assign(2, {});
  host.now += 9 * kSecond;
  rule.act(host, vms, orders);
  EXPECT_FALSE(orders[0].balloon_bytes) << "only every ten seconds";
}

TEST(Proxmox, GrowsThePressedFirstAndLeavesSmallDifferencesAlone) {
  ProxmoxRule rule;
  const std::vector<VmSeen> vms = {vm_seen("idle", 4 * kGib, 3 * kGib, 2 * kGib),
                                   vm_seen("pressed", 4 * kGib, 3 * kGib, 100 * kMib)};
  std::vector<Order> orders(2);
  rule.act({kSecond, 10 * kGib, 2 * kGib + 60 * kMib}, vms, orders);
  EXPECT_FALSE(orders[0].balloon_bytes);
  EXPECT_NEAR(to_bytes(left(vms[1], orders[1])), (3072 + 60) * kMb, 2 * kMb);
  orders.assign(2, {});
  rule.act({20 * kSecond, 10 * kGib, 2 * kGib + 9 * kMib}, vms, orders);
  EXPECT_FALSE(orders[1].balloon_bytes);
}

TEST(Mom, StepsByFivePercentTowardsUsedAndAFifth) {
  MomRule rule;
  const std::vector<VmSeen> vms = {vm_seen("a", 4 * kGib, 4 * kGib, 3 * kGib)};
  std::vector<Order> orders(1);
  rule.act({kSecond, 10 * kGib, kGib}, vms, orders);
  EXPECT_NEAR(to_bytes(left(vms[0], orders[0])), 4096 * 0.95 * kMb, kMb);
  // Plenty free: grows by 5 % at least.
  MomRule other;
  const std::vector<VmSeen> small = {vm_seen("a", 4 * kGib, 2 * kGib, kGib)};
  orders.assign(1, {});
  other.act({kSecond, 10 * kGib, 5 * kGib}, small, orders);
  EXPECT_NEAR(to_bytes(left(small[0], orders[0])), 2048 * 1.05 * kMb, kMb);
}

TEST(Mom, PressesAGuestBelowWhatItUsesWhenTheHostIsCritical) {
  MomRule rule;
  const std::vector<VmSeen> vms = {vm_seen("a", 4 * kGib, 4 * kGib, 0)};
  std::vector<Order> orders(1);
  rule.act({kSecond, 100 * kGib, 4 * kGib}, vms, orders);
  EXPECT_NEAR(to_bytes(left(vms[0], orders[0])), 4096 * 0.99 * kMb, kMb);
}

TEST(Squeezed, GivesEveryoneTheSameFractionOfItsRange) {
  SqueezedRule rule;
  std::vector<VmSeen> vms = {vm_seen("a", 4 * kGib, 4 * kGib, 0),
                             vm_seen("b", 2 * kGib, 2 * kGib, 0)};
  vms[0].allocation.min_bytes = 2 * kGib;
  vms[1].allocation.min_bytes = kGib;
  std::vector<Order> orders(2);
  rule.act({kSecond, 4608 * kMib + (9 << 20), 0}, vms, orders);
  EXPECT_NEAR(to_bytes(left(vms[0], orders[0])), 3 * kGb, kMb);
  EXPECT_NEAR(to_bytes(left(vms[1], orders[1])), 1.5 * kGb, kMb);
}

TEST(Squeezed, GrowsOnlyWhenTheOthersHaveShrunkAndLeavesOutWhoIsStuck) {
  SqueezedRule rule;
  std::vector<VmSeen> vms = {vm_seen("big", 4 * kGib, 4 * kGib, 0),
                             vm_seen("small", 4 * kGib, 2 * kGib, 0),
                             vm_seen("other", 4 * kGib, 4 * kGib, 0)};
  for (VmSeen& vm : vms) vm.allocation.min_bytes = 2 * kGib;
  std::vector<Order> orders(3);
  const uint64_t memory = 9 * kGib + (9 << 20);
  rule.act({kSecond, memory, 0}, vms, orders);
  EXPECT_NEAR(to_bytes(left(vms[0], orders[0])), 3 * kGb, kMb);
  EXPECT_FALSE(orders[1].balloon_bytes) << "second phase";
  // "big" does not move; "other" does.
  vms[2].balloon.actual_bytes = 3 * kGib;
  for (int second = 2; second <= 12; ++second) {
    rule.act({static_cast<Nanoseconds>(second) * kSecond, memory, 0}, vms, orders);
  }
  // It is left its 4 GB; the other two divide what remains.
  EXPECT_NEAR(to_bytes(left(vms[2], orders[2])), 2.5 * kGb, kMb);
}

TEST(Senpai, TakesOnePercentEverySixSecondsUntilAnyoneStalls) {
  SenpaiRule rule;
  std::vector<VmSeen> vms = {vm_seen("a", 4 * kGib, 4 * kGib, 0)};
  std::vector<Order> orders(1);
  rule.act({kSecond, 8 * kGib, 4 * kGib}, vms, orders);
  EXPECT_EQ(orders[0].reclaim_bytes, (4 * kGib - 100 * kMib) / 100);
  orders.assign(1, {});
  rule.act({2 * kSecond, 8 * kGib, 4 * kGib}, vms, orders);
  EXPECT_EQ(orders[0].reclaim_bytes, 0) << "only every six seconds";
  vms[0].stall = 0.5;
  rule.act({8 * kSecond, 8 * kGib, 4 * kGib}, vms, orders);
  EXPECT_EQ(orders[0].reclaim_bytes, 0);
}

}  // namespace
}  // namespace ballast::simulator::fluid
