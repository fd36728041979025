#include "cli/argument_values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ballast::cli {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kMegabyte = 1u << 20;

template <typename T>
std::string refusal(const Result<T>& result) {
  return result ? "accepted" : result.error().message;
}

TEST(ArgumentValues, SizesAreWholeMegabytesWithAUnit) {
  EXPECT_EQ(*parse_megabytes("--min", "0"), 0u);
  EXPECT_EQ(*parse_megabytes("--min", "512M"), 512 * kMegabyte);
  EXPECT_EQ(*parse_megabytes("--min", "1.5g"), 1536 * kMegabyte);
  EXPECT_EQ(*parse_megabytes("--min", "1048576"), kMegabyte);
  EXPECT_EQ(refusal(parse_megabytes("--min", "512")),
            "--min 512: without a unit these are bytes; write for example 512M");
  EXPECT_EQ(refusal(parse_megabytes("--min", "1500K")),
            "--min 1500K: whole megabytes are needed; write for example 1M");
  for (const char* text :
       {"", "M", "1 M", "1X", "1Mi", "-1M", "1e3M", "1MBs", "0x1M", "9999999T"}) {
    EXPECT_THAT(refusal(parse_megabytes("--min", text)), HasSubstr("for example 512M or 1.5G"))
        << text;
  }
}

TEST(ArgumentValues, LimitsMayBeNoneAndBalloonsDefault) {
  EXPECT_EQ(*parse_limit("--limit", "2G"), 2048 * kMegabyte);
  EXPECT_EQ(*parse_limit("--limit", "none"), kNoLimit);
  EXPECT_THAT(refusal(parse_limit("--limit", "default")), HasSubstr("1.5G, or none"));
  EXPECT_EQ(*parse_balloon_max("--balloon-max", "0"), 0u);
  EXPECT_EQ(*parse_balloon_max("--balloon-max", "default"), kDefaultBalloonMax);
  EXPECT_THAT(refusal(parse_balloon_max("--balloon-max", "none")), HasSubstr("1.5G, or default"));
}

TEST(ArgumentValues, TimesHaveUnits) {
  EXPECT_EQ(*parse_duration("--for", "90s"), 90u);
  EXPECT_EQ(*parse_duration("--for", "10m"), 600u);
  EXPECT_EQ(*parse_duration("--for", "2h"), 7200u);
  EXPECT_EQ(*parse_duration("--for", "7d"), 7 * 86'400u);
  for (const char* text : {"", "10", "m", "1.5h", "-1m", "10min", " 10m", "10M"}) {
    EXPECT_THAT(refusal(parse_duration("--for", text)), HasSubstr("is no time; write a number"))
        << text;
  }
  for (const char* text : {"0s", "8d", "604801s", "99999999999999999999m"}) {
    EXPECT_THAT(refusal(parse_duration("--for", text)), HasSubstr("from 1s to 7d are possible"))
        << text;
  }
}

TEST(ArgumentValues, AddedVmsHaveACountAndAnAllocation) {
  const auto one = parse_added_vms("2G");
  ASSERT_TRUE(one) << one.error().message;
  ASSERT_EQ(one->size(), 1u);
  EXPECT_EQ(one->at(0).configured_bytes, 2048 * kMegabyte);
  EXPECT_EQ(one->at(0).allocation, Allocation{});
  EXPECT_EQ(one->at(0).name, "");
  const auto three = parse_added_vms("3x512M,min=64M,shares=high,limit=256M");
  ASSERT_TRUE(three) << three.error().message;
  ASSERT_EQ(three->size(), 3u);
  EXPECT_EQ(three->at(2).configured_bytes, 512 * kMegabyte);
  EXPECT_EQ(three->at(2).allocation, (Allocation{.min_bytes = 64 * kMegabyte,
                                                 .limit_bytes = 256 * kMegabyte,
                                                 .shares = {ShareLevel::kHigh, 0}}));
  EXPECT_TRUE(parse_added_vms("2G,limit=none"));
}

TEST(ArgumentValues, AddedVmsThatCannotBeAreRefused) {
  const std::vector<std::pair<const char*, const char*>> table = {
      {"", "--add: '' is not a size"},
      {"x2G", "--add x2G: '' is not a whole number"},
      {"-3x2G", "'-3' is not a whole number"},
      {"0x2G", "--add 0x2G: 1 to 1000 VMs can be added"},
      {"1001x2G", "1 to 1000 VMs"},
      {"99999999999999999999x2G", "is not a whole number"},
      {"3x", "'' is not a size"},
      {"3xx2G", "'x2G' is not a size"},
      {"0", "memory of 0 bytes"},
      {"2G,", "'' is not known; known are min, limit and shares"},
      {"2G,max=1G", "'max' is not known"},
      {"2G,min", "'' is not a size"},
      {"2G,min=1G,min=1G", "min is given twice"},
      {"2G,min=3G", "a min of 3 GB exceeds its memory of 2 GB"},
      {"2G,min=1G,limit=512M", "a min of 1 GB exceeds its limit of 512 MB"},
      {"2G,shares=0", "shares '0' are refused"},
  };
  for (const auto& [text, words] : table) {
    EXPECT_THAT(refusal(parse_added_vms(text)), HasSubstr(words)) << text;
  }
}

TEST(ArgumentValues, SettingsOfOneVmAreOneChange) {
  WhatIfQuestion question;
  for (const char* text : {"web1.shares=2000", "db.example.min=1.5G", "web1.limit=none"}) {
    const Status added = add_setting(text, question);
    ASSERT_TRUE(added) << added.error().message;
  }
  ASSERT_EQ(question.set.size(), 2u);
  EXPECT_EQ(question.set[0].first, "web1");
  EXPECT_EQ(
      question.set[0].second,
      (AllocationChange{.limit_bytes = kNoLimit, .shares = Shares{ShareLevel::kCustom, 2000}}));
  EXPECT_EQ(question.set[1].first, "db.example");
  EXPECT_EQ(question.set[1].second, (AllocationChange{.min_bytes = 1536 * kMegabyte}));
}

TEST(ArgumentValues, SettingsThatMakeNoSenseAreRefused) {
  const std::vector<std::pair<const char*, const char*>> table = {
      {"", "write VM.shares=2000"},
      {"web1", "write VM.shares=2000"},
      {"web1=3", "write VM.shares=2000"},
      {"web1=1.5G", "write VM.shares=2000"},
      {".min=1G", "'' is no name"},
      {"a b.min=1G", "'a b' is no name"},
      {"web1.max=1G", "'max' is not known; known are min, limit and shares"},
      {"web1.=1G", "'' is not known"},
      {"web1.min=", "'' is not a size"},
      {"web1.shares=some", "shares 'some' are refused"},
      {"web2.min=2G", "--set web2.min=2G: min is given twice"},
  };
  for (const auto& [text, words] : table) {
    WhatIfQuestion question{.add = {}, .set = {{"web2", {.min_bytes = 0}}}};
    EXPECT_THAT(refusal(add_setting(text, question)), HasSubstr(words)) << text;
  }
}

TEST(ParseSalt, TakesSaltsAndNone) {
  EXPECT_EQ(*parse_salt("--salt", "web"), "web");
  EXPECT_EQ(*parse_salt("--salt", "none"), "");
  for (const char* text : {"", "two words", "sch\xc3\xb6n"}) {
    const auto salt = parse_salt("--salt", text);
    ASSERT_FALSE(salt) << text;
    EXPECT_EQ(salt.error().message,
              fmt::format("--salt: a salt of {} bytes is refused: 1 to 128 printable ASCII "
                          "characters without blanks are needed, or none",
                          std::string(text).size()));
  }
}

}  // namespace
}  // namespace ballast::cli
