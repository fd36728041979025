#include "cli/table.h"

#include <gtest/gtest.h>

#include "cli/format.h"

namespace ballast::cli {
namespace {

TEST(Table, AlignsAndLeavesNoBlanksAtLineEnds) {
  Table table({{"NAME", Align::kLeft}, {"SIZE"}, {"REMARK", Align::kLeft}});
  table.add_row({{"a"}, {"1000"}, {""}});
  table.add_row({{"longer"}, {"1"}, {"x"}});
  EXPECT_EQ(table.render({}),
            "NAME    SIZE  REMARK\n"
            "a       1000\n"
            "longer     1  x\n");
}

TEST(Table, ShrinksWhatMayShrink) {
  Table table({{"NAME", Align::kLeft, true}, {"SIZE"}});
  table.add_row({{"a-name-that-is-long-1"}, {"1000"}});
  table.add_row({{"short"}, {"1"}});
  EXPECT_EQ(table.render({.width = 16}),
            "NAME        SIZE\n"
            "a-na..ng-1  1000\n"
            "short          1\n");
  EXPECT_EQ(table.render({.width = 0}).find(".."), std::string::npos);
}

TEST(Table, ColoursDoNotCountAsWidth) {
  Table table({{"A", Align::kLeft}, {"B"}});
  table.add_row({{"x", Colour::kRed}, {"1"}});
  EXPECT_EQ(table.render({.colours = true}),
            "\x1b[1mA\x1b[0m  \x1b[1mB\x1b[0m\n\x1b[31mx\x1b[0m  1\n");
}

TEST(Table, HostileTextCannotMoveTheCursor) {
  Table table({{"A", Align::kLeft}});
  table.add_row({{"a\x1b[2J\n\xff"}});
  EXPECT_EQ(table.render({}), "A\na?[2J??\n");
}

TEST(Wrapped, BreaksAtBlanksAndIndents) {
  EXPECT_EQ(wrapped("one two three four", 2, {.width = 9}), "one two\n  three\n  four");
  EXPECT_EQ(wrapped("unbreakableword x", 2, {.width = 5}), "unbreakableword\n  x");
  EXPECT_EQ(wrapped("  kept in front", 4, {.width = 40}), "  kept in front");
  EXPECT_EQ(wrapped("", 2, {}), "");
}

TEST(Format, CompactSizesAreAtMostFiveColumns) {
  EXPECT_EQ(compact_size(0), "0");
  EXPECT_EQ(compact_size(4096), "4K");
  EXPECT_EQ(compact_size(256u << 20), "256M");
  EXPECT_EQ(compact_size(3ull << 29), "1.5G");
  EXPECT_EQ(compact_size((1ull << 30) - 1), "1G");
  for (uint64_t bytes = 1; bytes < 1ull << 44; bytes = bytes * 5 / 4 + 1) {
    EXPECT_LE(compact_size(bytes).size(), 5u) << bytes;
  }
}

TEST(Format, CountsAreAtMostSixColumns) {
  EXPECT_EQ(compact_count(0), "0");
  EXPECT_EQ(compact_count(999'999), "999999");
  EXPECT_EQ(compact_count(1'550'000), "1.6m");
  EXPECT_EQ(compact_count(100'000'000), "100m");
}

TEST(Format, RatesAndTimes) {
  EXPECT_EQ(format_rate(std::nullopt), "-");
  EXPECT_EQ(format_rate(0), "0");
  EXPECT_EQ(format_rate(0.34), "0.3");
  EXPECT_EQ(format_rate(45210.4), "45210");
  EXPECT_EQ(format_rate(1234000), "1234k");
  EXPECT_EQ(format_nanoseconds(850), "850 ns");
  EXPECT_EQ(format_nanoseconds(3400000), "3.4 ms");
  EXPECT_EQ(format_nanoseconds(12345), "12 us");
  EXPECT_EQ(format_uptime(42'000'000'000), "42 s");
  EXPECT_EQ(format_uptime(7'800'000'000'000), "2 h 10 min");
  EXPECT_EQ(format_percent(1, 0), "-");
  EXPECT_EQ(format_percent(1, 4), "25 %");
}

}  // namespace
}  // namespace ballast::cli
