#include "model/power_on.h"

#include <gtest/gtest.h>

#include "model/salt.h"

namespace ballast {
namespace {

VmSpec vm(std::string salt, std::string uuid = "1-2", bool share_enable = true) {
  return {.name = "web1",
          .uuid = std::move(uuid),
          .share_enable = share_enable,
          .salt = std::move(salt)};
}

TEST(PowerOn, WhatIsKeptWinsOverWhatTheVmIsStartedWith) {
  EXPECT_EQ(apply(vm("web"), PowerOn{}).salt, "web");
  EXPECT_TRUE(apply(vm("web"), PowerOn{}).share_enable);
  EXPECT_FALSE(apply(vm("", "", false), PowerOn{}).share_enable);
  const VmSpec spec = apply(vm("web"), PowerOn{"db", PageSharing::kOff});
  EXPECT_EQ(spec.salt, "db");
  EXPECT_FALSE(spec.share_enable);
  EXPECT_EQ(spec.name, "web1");
  EXPECT_TRUE(apply(vm("", "", false), PowerOn{"", PageSharing::kOn}).share_enable);
}

TEST(PowerOn, ChangesLeaveTheRestAlone) {
  PowerOn kept;
  kept = apply(kept, {.salt = "db"});
  kept = apply(kept, {.sharing = PageSharing::kOff});
  EXPECT_EQ(kept, (PowerOn{"db", PageSharing::kOff}));
  kept = apply(kept, {.salt = ""});
  EXPECT_EQ(kept, (PowerOn{"", PageSharing::kOff}));
  EXPECT_EQ(apply(kept, {.sharing = PageSharing::kAsStarted}), PowerOn{});
}

TEST(PowerOn, SharingIsOneOfThreeWords) {
  for (const char* word : {"default", "on", "off"}) {
    const auto sharing = parse_sharing(word);
    ASSERT_TRUE(sharing) << word;
    EXPECT_EQ(format_sharing(*sharing), word);
  }
  for (const char* word : {"", "yes", "ON", "1", "on "}) {
    const auto sharing = parse_sharing(word);
    ASSERT_FALSE(sharing) << word;
    EXPECT_NE(sharing.error().message.find("on, off or default"), std::string::npos);
  }
}

TEST(PowerOn, TheNextGroupFollowsFromAllThatWaits) {
  VmSpec now = vm("");
  now.share_group = share_group(now, 2, "r1");
  EXPECT_EQ(next_share_group(now, now, {}, 2), now.share_group);
  EXPECT_EQ(next_share_group(now, now, {"web", PageSharing::kAsStarted}, 2), "salt:web");
  EXPECT_EQ(next_share_group(now, now, {"web", PageSharing::kOff}, 2), "");
  EXPECT_EQ(next_share_group(now, now, {}, 1), "salt:0") << "the option waits for it too";
  // What it runs with was kept, and is not any more.
  VmSpec kept_once = vm("web");
  kept_once.share_group = "salt:web";
  EXPECT_EQ(next_share_group(kept_once, vm(""), {}, 2), now.share_group);
  // Alone by a random text: it stays alone.
  VmSpec alone = vm("", "");
  alone.share_group = "vm:r1";
  EXPECT_EQ(next_share_group(alone, alone, {}, 2), "vm:r1");
  alone.share_group = "all";
  EXPECT_EQ(next_share_group(alone, alone, {}, 2), "vm:new");
}

}  // namespace
}  // namespace ballast
