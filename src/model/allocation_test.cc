#include "model/allocation.h"

#include <gtest/gtest.h>

#include "base/units.h"

namespace ballast {
namespace {

constexpr uint64_t kMegabyte = 1u << 20;
constexpr uint64_t kGigabyte = 1u << 30;

std::string refusal(const Allocation& allocation, uint64_t configured_bytes = kGigabyte) {
  const Status status = check_allocation("web1", allocation, configured_bytes);
  return status ? "accepted" : status.error().message;
}

TEST(Shares, PresetsArePerMegabyteOfMemory) {
  EXPECT_EQ(share_count({ShareLevel::kLow, 0}, kGigabyte), 5u * 1024);
  EXPECT_EQ(share_count({ShareLevel::kNormal, 0}, kGigabyte), 10u * 1024);
  EXPECT_EQ(share_count({ShareLevel::kHigh, 0}, kGigabyte), 20u * 1024);
  EXPECT_EQ(share_count({ShareLevel::kCustom, 42}, kGigabyte), 42u);
  EXPECT_EQ(share_count({}, kGigabyte), 10u * 1024) << "normal is the default";
  EXPECT_EQ(share_count({ShareLevel::kLow, 0}, kPageBytes), 5u) << "never none at all";
}

TEST(Shares, ParseWhatTheyPrint) {
  for (const char* text : {"low", "normal", "high", "1", "2000", "100000000"}) {
    const auto shares = parse_shares(text);
    ASSERT_TRUE(shares) << shares.error().message;
    EXPECT_EQ(format_shares(*shares), text);
    EXPECT_EQ(*parse_shares(format_shares(*shares)), *shares);
  }
  EXPECT_EQ(*parse_shares("007"), (Shares{ShareLevel::kCustom, 7}));
}

TEST(Shares, RefusesTheRestWithWhatIsAllowed) {
  for (const char* text : {"", "0", "-1", "+1", "1.5", " 1", "1 ", "100000001", "4294967297",
                           "High", "norma", "normal\n", "1e3", "0x10"}) {
    EXPECT_FALSE(parse_shares(text)) << text;
  }
  EXPECT_EQ(parse_shares("lots").error().message,
            "shares 'lots' are refused: low, normal, high (5, 10, 20 per MB of the VM's memory) or "
            "a number from 1 to 100000000 is needed");
  EXPECT_LT(parse_shares(std::string(5000, 'x')).error().message.size(), 250u);
}

TEST(Allocation, ChangesOnlyWhatTheChangeNames) {
  const Allocation before{.min_bytes = kMegabyte,
                          .limit_bytes = 8 * kMegabyte,
                          .shares = {ShareLevel::kHigh, 0},
                          .balloon_max_bytes = 2 * kMegabyte};
  EXPECT_EQ(apply(before, {}), before);
  Allocation after = before;
  after.min_bytes = 0;
  EXPECT_EQ(apply(before, {.min_bytes = 0}), after);
  after = before;
  after.limit_bytes = kNoLimit;
  EXPECT_EQ(apply(before, {.limit_bytes = kNoLimit}), after);
  after = before;
  after.shares = {};
  EXPECT_EQ(apply(before, {.shares = Shares{}}), after);
  after = before;
  after.balloon_max_bytes = kDefaultBalloonMax;
  EXPECT_EQ(apply(before, {.balloon_max_bytes = kDefaultBalloonMax}), after);
}

TEST(Allocation, MaxIsTheLimitOrTheSize) {
  EXPECT_EQ(max_bytes({}, kGigabyte), kGigabyte);
  EXPECT_EQ(max_bytes({.limit_bytes = kMegabyte}, kGigabyte), kMegabyte);
  EXPECT_EQ(max_bytes({.limit_bytes = 2 * kGigabyte}, kGigabyte), kGigabyte);
}

TEST(Allocation, BalloonMaxIsTheHostsPercentageUnlessItHasItsOwn) {
  EXPECT_EQ(balloon_max_bytes({}, 100 * kMegabyte, 65), 65 * kMegabyte);
  EXPECT_EQ(balloon_max_bytes({}, kGigabyte, 65) % kPageBytes, 0u);
  EXPECT_EQ(balloon_max_bytes({.balloon_max_bytes = 90 * kMegabyte}, 100 * kMegabyte, 65),
            90 * kMegabyte);
  EXPECT_EQ(balloon_max_bytes({.balloon_max_bytes = 0}, kGigabyte, 65), 0u);
  EXPECT_EQ(balloon_max_bytes({.balloon_max_bytes = kMegabyte}, kGigabyte, 0), 0u)
      << "0 % forbids ballooning on the whole host";
}

TEST(Allocation, AcceptsWhatCanBe) {
  EXPECT_EQ(refusal({}), "accepted");
  EXPECT_EQ(refusal({.min_bytes = kGigabyte, .limit_bytes = kGigabyte, .balloon_max_bytes = 0}),
            "accepted");
  EXPECT_EQ(refusal({.limit_bytes = 2 * kGigabyte}), "accepted") << "no cap, but no harm";
  EXPECT_EQ(refusal({.limit_bytes = kMegabyte}), "accepted");
  EXPECT_EQ(refusal({.shares = {ShareLevel::kCustom, 1}, .balloon_max_bytes = kGigabyte}),
            "accepted");
}

TEST(Allocation, EveryRefusalNamesVmRuleAndNumbers) {
  EXPECT_EQ(refusal({.min_bytes = 2 * kGigabyte}),
            "web1: a min of 2 GB exceeds its memory of 1 GB");
  EXPECT_EQ(refusal({.min_bytes = kGigabyte + 4096}),
            "web1: a min of 1048580 KB exceeds its memory of 1 GB");
  EXPECT_EQ(refusal({.min_bytes = 512 * kMegabyte, .limit_bytes = 256 * kMegabyte}),
            "web1: a min of 512 MB exceeds its limit of 256 MB");
  EXPECT_EQ(refusal({.limit_bytes = 512 * 1024}),
            "web1: a limit of 512 KB is too small to run in: at least 1 MB are needed");
  EXPECT_EQ(refusal({.balloon_max_bytes = 2 * kGigabyte}),
            "web1: a balloon of up to 2 GB exceeds its memory of 1 GB");
  EXPECT_EQ(refusal({.min_bytes = 5000}),
            "web1: a min of 5000 bytes is refused: whole pages of 4096 bytes are needed");
  EXPECT_EQ(refusal({.limit_bytes = kMegabyte + 1}),
            "web1: a limit of 1048577 bytes is refused: whole pages of 4096 bytes are needed");
  EXPECT_EQ(
      refusal({.balloon_max_bytes = 4095}),
      "web1: a balloon maximum of 4095 bytes is refused: whole pages of 4096 bytes are needed");
  EXPECT_EQ(refusal({.shares = {ShareLevel::kCustom, 0}}),
            "web1: shares of 0 are refused: 1 to 100000000 are needed");
  EXPECT_EQ(refusal({.shares = {ShareLevel::kCustom, kSharesMax + 1}}),
            "web1: shares of 100000001 are refused: 1 to 100000000 are needed");
}

}  // namespace
}  // namespace ballast
