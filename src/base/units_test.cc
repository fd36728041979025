#include "base/units.h"

#include <gtest/gtest.h>

namespace ballast {
namespace {

TEST(Units, ParsesSizesOperatorsWrite) {
  EXPECT_EQ(*parse_size("4096"), 4096u);
  EXPECT_EQ(*parse_size("256M"), 256u << 20);
  EXPECT_EQ(*parse_size("1g"), 1u << 30);
  EXPECT_EQ(*parse_size("1.5G"), 3u << 29);
  EXPECT_EQ(*parse_size("64MB"), 64u << 20);
  EXPECT_EQ(*parse_size("64MiB"), 64u << 20);
}

TEST(Units, RefusesEverythingElseAndNamesTheText) {
  for (const char* text : {"", "M", "-1M", "12X", "1e3", "9999999999T", "nan", "1M2", "1 M"}) {
    const auto size = parse_size(text);
    ASSERT_FALSE(size.has_value()) << text;
    EXPECT_NE(size.error().message.find(std::string("'") + text + "'"), std::string::npos);
  }
}

TEST(Units, FormatsForPeople) {
  EXPECT_EQ(format_size(0), "0 B");
  EXPECT_EQ(format_size(256ull << 20), "256 MB");
  EXPECT_EQ(format_size(1536ull << 20), "1.5 GB");
  EXPECT_EQ(format_size(1000), "1000 B");
}

}  // namespace
}  // namespace ballast
