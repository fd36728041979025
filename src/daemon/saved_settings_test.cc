#include "daemon/saved_settings.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace ballast::daemon {
namespace {

constexpr uint64_t kMb = uint64_t{1} << 20;

class SavedSettings : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = testing::TempDir() + "saved." + std::to_string(getpid());
    std::filesystem::create_directories(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  void write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories(
        std::filesystem::path(directory_ + "/" + name).parent_path());
    std::ofstream(directory_ + "/" + name) << text;
  }
  std::string directory_;
};

TEST_F(SavedSettings, OptionsComeBackOverWhatWasConfigured) {
  SavedOptions first(directory_);
  Options options;
  ASSERT_TRUE(first.load(options));
  EXPECT_EQ(options, Options{});  // nothing saved yet
  ASSERT_TRUE(first.save("Mem.IdleTax", "50"));
  ASSERT_TRUE(first.save("Mem.SamplePeriod", "5"));
  ASSERT_TRUE(first.save("Mem.IdleTax", "20"));

  Options configured;
  configured.idle_tax_percent = 10;
  configured.balance_period_s = 30;
  SavedOptions second(directory_);
  ASSERT_TRUE(second.load(configured));
  EXPECT_EQ(configured.idle_tax_percent, 20u);
  EXPECT_EQ(configured.sample_period_s, 5u);
  EXPECT_EQ(configured.balance_period_s, 30u);
  // And are still saved after the next one.
  ASSERT_TRUE(second.save("Mem.BalancePeriod", "15"));
  Options again;
  ASSERT_TRUE(SavedOptions(directory_).load(again));
  EXPECT_EQ(again.idle_tax_percent, 20u);
}

TEST_F(SavedSettings, AFileOfOptionsThatMakesNoSenseIsRefusedByLine) {
  write("options.toml", "[options]\n\"Mem.IdleTax\" = \"150\"\n");
  Options options;
  const auto loaded = SavedOptions(directory_).load(options);
  ASSERT_FALSE(loaded);
  EXPECT_NE(loaded.error().message.find("options.toml:2"), std::string::npos)
      << loaded.error().message;
  EXPECT_EQ(options, Options{});
}

TEST_F(SavedSettings, WhereNothingCanBeWrittenTheReasonIsSaid) {
  write("file", "");
  const auto saved = SavedOptions(directory_ + "/file").save("Mem.IdleTax", "50");
  ASSERT_FALSE(saved);
  EXPECT_NE(saved.error().message.find("options.toml"), std::string::npos);
}

TEST_F(SavedSettings, AnAllocationComesBackForAVmOfItsSize) {
  const SavedAllocations saved(directory_);
  EXPECT_FALSE(saved.load("web1", 256 * kMb));
  const Allocation allocation{.min_bytes = 64 * kMb,
                              .limit_bytes = 128 * kMb,
                              .shares = {ShareLevel::kCustom, 777},
                              .balloon_max_bytes = 32 * kMb};
  ASSERT_TRUE(saved.save("web1", allocation));
  EXPECT_EQ(saved.load("web1", 256 * kMb), allocation);
  EXPECT_FALSE(saved.load("web1", 32 * kMb));  // a smaller VM of that name cannot have it
  ASSERT_TRUE(saved.save("web1", Allocation{}));
  EXPECT_EQ(saved.load("web1", 256 * kMb), Allocation{});
  saved.remove("web1");
  EXPECT_FALSE(saved.load("web1", 256 * kMb));
}

TEST_F(SavedSettings, GarbageInAnAllocationIsNone) {
  const SavedAllocations saved(directory_);
  for (const char* text :
       {"", "nonsense", "[]", "{\"shares\":1}", "{\"shares\":\"normal\",\"min_bytes\":-1}",
        "{\"shares\":\"many\",\"min_bytes\":0,\"limit_bytes\":null,"
        "\"balloon_max_bytes\":null}"}) {
    write("settings/web1", text);
    EXPECT_FALSE(saved.load("web1", 256 * kMb)) << text;
  }
}

VmSpec vm(std::string name, std::string uuid) {
  return {.name = std::move(name), .uuid = std::move(uuid)};
}

TEST_F(SavedSettings, WhatAVmIsPoweredOnWithStaysUntilItIsTakenBack) {
  SavedPowerOn saved(directory_);
  EXPECT_EQ(saved.load(vm("web1", "u-1")), PowerOn{});
  const PowerOn power_on{"web", PageSharing::kOff};
  ASSERT_TRUE(saved.save(vm("web1", "u-1"), power_on));
  for (int times = 0; times < 2; ++times) {
    EXPECT_EQ(SavedPowerOn(directory_).load(vm("web1", "u-1")), power_on);
  }
  ASSERT_TRUE(saved.save(vm("web1", "u-1"), {"", PageSharing::kOn}));
  EXPECT_EQ(saved.load(vm("web1", "u-1")), (PowerOn{"", PageSharing::kOn}));
  ASSERT_TRUE(saved.save(vm("web1", "u-1"), PowerOn{}));
  EXPECT_EQ(saved.load(vm("web1", "u-1")), PowerOn{});
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/power-on/web1"));
  EXPECT_TRUE(saved.save(vm("web1", "u-1"), PowerOn{})) << "there is nothing to take back";
}

TEST_F(SavedSettings, WhatAVmIsPoweredOnWithIsForNobodyElse) {
  SavedPowerOn saved(directory_);
  const PowerOn power_on{"web", PageSharing::kAsStarted};
  ASSERT_TRUE(saved.save(vm("web1", "u-1"), power_on));
  EXPECT_EQ(saved.load(vm("web2", "u-1")), PowerOn{});
  EXPECT_EQ(saved.load(vm("web1", "u-2")), PowerOn{}) << "another VM of that name";
  EXPECT_EQ(saved.load(vm("web1", "")), PowerOn{});
  ASSERT_TRUE(saved.save(vm("db", ""), power_on));
  EXPECT_EQ(saved.load(vm("db", "")), power_on);
  EXPECT_EQ(saved.load(vm("db", "u-9")), power_on) << "kept under the name alone";
}

TEST_F(SavedSettings, NamesThatLookAlikeDoNotMeet) {
  SavedPowerOn saved(directory_);
  const PowerOn first{"a", PageSharing::kAsStarted};
  ASSERT_TRUE(saved.save(vm("web1.new", ""), first));
  ASSERT_TRUE(saved.save(vm("web1", ""), {"b", PageSharing::kAsStarted}));
  EXPECT_EQ(saved.load(vm("web1.new", "")), first);
}

TEST_F(SavedSettings, GarbageInAPowerOnIsNone) {
  for (const char* text : {"", "nonsense", "[]", "{}", R"({"uuid":"","salt":"web"})",
                           R"({"uuid":"","salt":"web","pshare":"perhaps"})",
                           R"({"uuid":"","salt":"two words","pshare":"off"})",
                           R"({"uuid":"","salt":"none","pshare":"on"})"}) {
    write("power-on/web1", text);
    EXPECT_EQ(SavedPowerOn(directory_).load(vm("web1", "u-1")), PowerOn{}) << text;
  }
}

TEST_F(SavedSettings, WhereAPowerOnCannotBeKeptTheReasonIsSaid) {
  write("power-on", "a file where the directory should be");
  SavedPowerOn saved(directory_);
  const auto kept = saved.save(vm("web1", ""), {"web", PageSharing::kOn});
  ASSERT_FALSE(kept);
  EXPECT_NE(kept.error().message.find("power-on/web1"), std::string::npos);
  EXPECT_EQ(saved.load(vm("web1", "")), PowerOn{});
}

}  // namespace
}  // namespace ballast::daemon
