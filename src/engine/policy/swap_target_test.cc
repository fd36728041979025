#include "engine/policy/swap_target.h"

#include <gtest/gtest.h>

namespace ballast::engine {
namespace {

PagingSituation vm_in(HostState state) {
  return {.state = state,
          .consumed_bytes = 100,
          .swapped_bytes = 50,
          .swap_bytes = 1000,
          .target_bytes = 70,
          .soft_floor_bytes = 90};
}

TEST(SwapTarget, IsWhatIsSwappedWhileNothingIsTaken) {
  EXPECT_EQ(swap_target_bytes(vm_in(HostState::kHigh)), 50u);
  EXPECT_EQ(swap_target_bytes(vm_in(HostState::kClear)), 50u);
}

TEST(SwapTarget, GrowsByWhatIsAboveTheFloorOfTheState) {
  EXPECT_EQ(swap_target_bytes(vm_in(HostState::kSoft)), 60u);
  EXPECT_EQ(swap_target_bytes(vm_in(HostState::kHard)), 80u);
  EXPECT_EQ(swap_target_bytes(vm_in(HostState::kLow)), 80u);
}

TEST(SwapTarget, TheLimitHoldsInEveryState) {
  PagingSituation vm = vm_in(HostState::kHigh);
  vm.limit_floor_bytes = 60;
  EXPECT_EQ(swap_target_bytes(vm), 90u);
  vm.state = HostState::kHard;
  EXPECT_EQ(swap_target_bytes(vm), 90u);
}

TEST(SwapTarget, IsNotMoreThanTheFileHolds) {
  PagingSituation vm = vm_in(HostState::kHard);
  vm.swap_bytes = 65;
  EXPECT_EQ(swap_target_bytes(vm), 65u);
}

TEST(SwapTarget, ShrinksWhilePagesMayReturn) {
  PagingSituation vm = vm_in(HostState::kHigh);
  vm.target_bytes = 120;
  EXPECT_EQ(swap_target_bytes(vm), 50u);
  vm.brings_back = true;
  EXPECT_EQ(swap_target_bytes(vm), 30u);
  vm.target_bytes = 1000;
  EXPECT_EQ(swap_target_bytes(vm), 0u);
  vm.state = HostState::kSoft;
  vm.soft_floor_bytes = 1000;
  EXPECT_EQ(swap_target_bytes(vm), 50u);
}

}  // namespace
}  // namespace ballast::engine
