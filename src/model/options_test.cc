#include "model/options.h"

#include <gtest/gtest.h>

#include <set>

namespace ballast {
namespace {

// "a, b": its words; "3 to 9": both ends.
std::vector<std::string> allowed_values(std::string_view allowed) {
  std::vector<std::string> values;
  for (std::string_view separator : {" to ", ", "}) {
    const size_t at = allowed.find(separator);
    if (at == std::string_view::npos) continue;
    values.emplace_back(allowed.substr(0, at));
    values.emplace_back(allowed.substr(at + separator.size()));
  }
  return values;
}

TEST(Options, DefaultsAreEsxs) {
  const Options options;
  EXPECT_TRUE(options.zip_enable);
  EXPECT_EQ(options.zip_max_percent, 10u);
  EXPECT_EQ(options.min_free_percent, 0u);
  EXPECT_EQ(*get_option(options, "Mem.IdleTax"), "75");
  EXPECT_EQ(*get_option(options, "Mem.IdleTaxType"), "1");
  EXPECT_EQ(*get_option(options, "Mem.BalancePeriod"), "15");
  EXPECT_EQ(*get_option(options, "Mem.SamplePeriod"), "60");
  EXPECT_EQ(*get_option(options, "Mem.CtlMaxPercent"), "65");
  EXPECT_EQ(*get_option(options, "Mem.ShareForceSalting"), "2");
}

// ESX's 60 minutes, 4 MB/s per GHz and 1024 pages/s leave most of a short-lived VM unseen.
TEST(Options, SharingLooksFasterThanEsxs) {
  const Options options;
  EXPECT_EQ(*get_option(options, "Mem.ShareScanTime"), "10");
  EXPECT_EQ(*get_option(options, "Mem.ShareScanGHz"), "16");
  EXPECT_EQ(*get_option(options, "Mem.ShareRateMax"), "8192");
}

TEST(Options, EveryOptionTakesAllItAllowsAndShowsWhatItTook) {
  std::set<std::string_view> names;
  for (const OptionInfo& info : all_options()) {
    EXPECT_TRUE(names.insert(info.name).second) << info.name << " twice";
    EXPECT_FALSE(info.meaning.empty()) << info.name;
    const auto values = allowed_values(info.allowed);
    ASSERT_EQ(values.size(), 2u) << info.name << ": " << info.allowed;
    Options options;
    for (const std::string& value : values) {
      const Status set = set_option(options, info.name, value);
      ASSERT_TRUE(set) << set.error().message;
      EXPECT_EQ(*get_option(options, info.name), value) << info.name;
    }
    EXPECT_TRUE(set_option(options, info.name, *get_option(Options{}, info.name)));
    EXPECT_EQ(options, Options{}) << info.name << " changed something else too";
  }
}

TEST(Options, EveryOptionRefusesTheRestAndStaysAsItIs) {
  for (const OptionInfo& info : all_options()) {
    Options options;
    std::vector<std::string> bad = {"", "-1", "1.5", "yes", "1 ", "99999999999", "\n"};
    const auto values = allowed_values(info.allowed);
    const bool is_range = info.allowed.find(" to ") != std::string_view::npos;
    bad.push_back(is_range ? std::to_string(std::stoul(values[1]) + 1) : values[1] + "x");
    if (is_range && values[0] != "0") bad.push_back(std::to_string(std::stoul(values[0]) - 1));
    for (const std::string& value : bad) {
      const Status set = set_option(options, info.name, value);
      ASSERT_FALSE(set) << info.name << " = '" << value << "'";
      EXPECT_NE(set.error().message.find(info.name), std::string::npos);
      EXPECT_EQ(options, Options{});
    }
  }
}

TEST(Options, SetsByName) {
  Options options;
  EXPECT_TRUE(set_option(options, "Mem.MemZipEnable", "0"));
  EXPECT_FALSE(options.zip_enable);
  EXPECT_TRUE(set_option(options, "Mem.MemZipMaxPct", "20"));
  EXPECT_EQ(options.zip_max_percent, 20u);
  EXPECT_TRUE(set_option(options, "Ballast.Victims", "random"));
  EXPECT_EQ(options.victims, VictimChoice::kRandom);
  EXPECT_TRUE(set_option(options, "Mem.ShareForceSalting", "1"));
  EXPECT_EQ(options.share_force_salting, 1u);
  EXPECT_TRUE(set_option(options, "Mem.MinFreePct", "6"));
  EXPECT_EQ(*get_option(options, "Mem.MemMinFreePct"), "6") << "two names of one option";
}

TEST(Options, RefusalsNameOptionValueAndRange) {
  Options options;
  const auto bad = set_option(options, "Mem.MemZipMaxPct", "101");
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().message,
            "Mem.MemZipMaxPct = '101' is refused: a whole number from 1 to 100 is needed");
  EXPECT_EQ(set_option(options, "Ballast.Victims", "lru").error().message,
            "Ballast.Victims = 'lru' is refused: random or second-chance is needed");
  for (const OptionInfo& info : all_options()) {
    const auto unknown = get_option(options, "Mem.NoSuch");
    ASSERT_FALSE(unknown);
    EXPECT_NE(unknown.error().message.find(info.name), std::string::npos)
        << unknown.error().message;
  }
}

TEST(Options, ReportsValueDefaultAndMeaning) {
  Options options;
  options.idle_tax_percent = 50;
  const OptionReport report = report_option(options, **find_option("Mem.IdleTax"));
  EXPECT_EQ(report.name, "Mem.IdleTax");
  EXPECT_EQ(report.value, "50");
  EXPECT_EQ(report.default_value, "75");
  EXPECT_EQ(report.allowed, "0 to 99");
  EXPECT_TRUE(report.at_once);
  EXPECT_FALSE(report_option(options, **find_option("Ballast.Victims")).at_once);
  EXPECT_FALSE(report_option(options, **find_option("Mem.ShareForceSalting")).at_once);
  EXPECT_TRUE(report_option(options, **find_option("Mem.ShareScanTime")).at_once);
}

}  // namespace
}  // namespace ballast
