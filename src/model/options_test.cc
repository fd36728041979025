#include "model/options.h"

#include <gtest/gtest.h>

namespace ballast {
namespace {

TEST(Options, DefaultsAreEsxs) {
  const Options options;
  EXPECT_TRUE(options.zip_enable);
  EXPECT_EQ(options.zip_max_percent, 10u);
  EXPECT_EQ(options.min_free_percent, 0u);
}

TEST(Options, SetsByName) {
  Options options;
  EXPECT_TRUE(set_option(options, "Mem.MemZipEnable", "0"));
  EXPECT_FALSE(options.zip_enable);
  EXPECT_TRUE(set_option(options, "Mem.MemZipMaxPct", "20"));
  EXPECT_EQ(options.zip_max_percent, 20u);
  EXPECT_TRUE(set_option(options, "Ballast.Victims", "random"));
  EXPECT_EQ(options.victims, VictimChoice::kRandom);
}

TEST(Options, RefusalsNameOptionValueAndRange) {
  Options options;
  const auto bad = set_option(options, "Mem.MemZipMaxPct", "101");
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().message,
            "Mem.MemZipMaxPct = '101' is refused: a whole number from 1 to 100 is needed");
  EXPECT_FALSE(set_option(options, "Mem.MemZipEnable", "yes"));
  EXPECT_FALSE(set_option(options, "Mem.NoSuch", "1"));
  EXPECT_FALSE(set_option(options, "Ballast.Victims", "lru"));
}

}  // namespace
}  // namespace ballast
