#include "engine/sample/sample_panel.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace ballast::engine {
namespace {

bool is_sorted_and_unique(std::span<SamplePanel::Entry> entries) {
  return std::ranges::adjacent_find(entries, [](const auto& a, const auto& b) {
           return a.page >= b.page;
         }) == entries.end();
}

TEST(SamplePanel, EveryPageIsAsLikelyAsAnyOther) {
  // Stretches that end within pages.
  constexpr uint32_t kPages = 1001;
  constexpr uint32_t kFresh = 63;
  constexpr uint32_t kTimes = 60000;
  std::vector<uint32_t> chosen(kPages);
  SamplePanel panel;
  Random random(1);
  for (uint32_t i = 0; i < kTimes; ++i) {
    panel.renew({.fresh = kFresh}, kPages, random);
    ASSERT_EQ(panel.counts().fresh.pages, kFresh);
    ASSERT_TRUE(is_sorted_and_unique(panel.all()));
    for (const auto& entry : panel.all()) ++chosen[entry.page.raw()];
  }
  const double expected = double{kTimes} * kFresh / kPages;
  for (uint32_t page = 0; page < kPages; ++page) {
    EXPECT_NEAR(chosen[page], expected, expected * 0.08) << page;
  }
}

TEST(SamplePanel, MayHoldAllPages) {
  SamplePanel panel;
  Random random(1);
  panel.renew({.fresh = 300}, 300, random);
  EXPECT_EQ(panel.all().size(), 300u);
  EXPECT_TRUE(is_sorted_and_unique(panel.all()));
  EXPECT_EQ(panel.all().back().page, PageIndex(299));
}

TEST(SamplePanel, KeepsFreshPagesOfBothKindsForOnePeriod) {
  SamplePanel panel;
  Random random(3);
  panel.renew({.fresh = 500}, 100000, random);
  for (uint32_t i = 0; i < 500; ++i) {
    auto& entry = panel.all()[i];
    entry.armed = true;
    if (i % 5 == 0) panel.mark_touched(entry);
    if (i % 5 == 0) panel.mark_touched(entry);  // counts once
  }
  EXPECT_EQ(panel.counts().fresh.touched, 100u);
  const std::vector<SamplePanel::Entry> before(panel.all().begin(), panel.all().end());
  panel.renew({.fresh = 50, .hot = 20, .cold = 250}, 100000, random);
  EXPECT_EQ(panel.counts().hot.pages, 20u);
  EXPECT_EQ(panel.counts().cold.pages, 250u);
  EXPECT_EQ(panel.counts().fresh.pages, 50u);
  EXPECT_EQ(panel.counts().hot.touched + panel.counts().cold.touched, 0u);
  EXPECT_TRUE(is_sorted_and_unique(panel.all()));
  for (const auto& entry : panel.all()) {
    if (!entry.hot && !entry.cold) continue;
    const auto old = std::ranges::lower_bound(before, entry.page, {}, &SamplePanel::Entry::page);
    ASSERT_EQ(old->page, entry.page);
    EXPECT_EQ(entry.hot, bool{old->touched});
    EXPECT_EQ(entry.armed, !old->touched) << "an untouched page needs no second sample";
  }
  // Kept ones are not kept again.
  panel.renew({.fresh = 1, .hot = 1000, .cold = 1000}, 100000, random);
  EXPECT_EQ(panel.counts().hot.pages + panel.counts().cold.pages, 50u);
}

TEST(SamplePanel, APageMayBeKeptAndFresh) {
  SamplePanel panel;
  Random random(5);
  panel.renew({.fresh = 64}, 64, random);
  panel.mark_touched(panel.all()[10]);
  panel.renew({.fresh = 64, .hot = 8, .cold = 8}, 64, random);
  EXPECT_EQ(panel.all().size(), 64u);
  EXPECT_EQ(panel.counts().hot.pages, 1u);
  EXPECT_EQ(panel.counts().cold.pages, 8u);
  EXPECT_EQ(panel.counts().fresh.pages, 64u);
  EXPECT_TRUE(panel.all()[10].hot && panel.all()[10].fresh);
  panel.mark_touched(panel.all()[10]);
  EXPECT_EQ(panel.counts().hot.touched, 1u);
  EXPECT_EQ(panel.counts().fresh.touched, 1u);
}

TEST(SamplePanel, FindsTheEntriesWithinARun) {
  SamplePanel panel;
  EXPECT_TRUE(panel.within({PageIndex(0), 1000}).empty());
  Random random(7);
  panel.renew({.fresh = 100}, 1000, random);
  const auto found = panel.within({PageIndex(200), 300});
  uint32_t expected = 0;
  for (const auto& entry : panel.all())
    expected += entry.page >= PageIndex(200) && entry.page < PageIndex(500) ? 1 : 0;
  EXPECT_EQ(found.size(), expected);
  EXPECT_GE(found.front().page, PageIndex(200));
  EXPECT_LT(found.back().page, PageIndex(500));
  panel.clear();
  EXPECT_TRUE(panel.all().empty());
  EXPECT_EQ(panel.counts().fresh.pages, 0u);
}

}  // namespace
}  // namespace ballast::engine
