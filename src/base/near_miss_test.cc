#include "base/near_miss.h"

#include <gtest/gtest.h>

#include <array>

namespace ballast {
namespace {

constexpr std::array<std::string_view, 5> kKnown = {"Mem.IdleTax", "Mem.SamplePeriod", "memory",
                                                    "swap_dir", "Ballast.Victims"};

TEST(NearMiss, SlipsCaseAndMissingPrefixes) {
  EXPECT_EQ(nearest("Mem.IdelTax", kKnown), "Mem.IdleTax");
  EXPECT_EQ(nearest("mem.idletax", kKnown), "Mem.IdleTax");
  EXPECT_EQ(nearest("IdleTax", kKnown), "Mem.IdleTax");
  EXPECT_EQ(nearest("sample_period", kKnown), "Mem.SamplePeriod");
  EXPECT_EQ(nearest("memroy", kKnown), "memory");
  EXPECT_EQ(nearest("swapdir", kKnown), "swap_dir");
  EXPECT_EQ(nearest("victims", kKnown), "Ballast.Victims");
}

TEST(NearMiss, OtherWordsAreNotGuessed) {
  EXPECT_EQ(nearest("x", kKnown), "");
  EXPECT_EQ(nearest("", kKnown), "");
  EXPECT_EQ(nearest("speed", kKnown), "");
  EXPECT_EQ(nearest(std::string(1 << 20, 'm'), kKnown), "");
  EXPECT_EQ(nearest("memory", {}), "");
}

TEST(NearMiss, TheSentence) {
  EXPECT_EQ(did_you_mean("memroy", kKnown), " (did you mean memory?)");
  EXPECT_EQ(did_you_mean("speed", kKnown), "");
}

}  // namespace
}  // namespace ballast
