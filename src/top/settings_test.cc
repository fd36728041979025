#include "top/settings.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

namespace ballast::top {
namespace {

std::string refusal(const std::string& text) {
  const auto parsed = parse_settings(text, "top.toml");
  return parsed ? "" : parsed.error().message;
}

TEST(Settings, SurviveTheWayThereAndBack) {
  Settings settings;
  settings.fields = {"SWCUR", "%ACTV", "MEMSZ"};
  settings.sort = "SWCUR";
  settings.reverse = true;
  settings.delay_seconds = 7.5;
  settings.only_vms = true;
  for (const Settings& one : {settings, Settings()}) {
    const auto read = parse_settings(format_settings(one), "top.toml");
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_TRUE(*read == one);
  }
}

TEST(Settings, WhatIsMissingIsTheDefault) {
  const auto read = parse_settings("delay = 3\n", "top.toml");
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->delay_seconds, 3);
  EXPECT_EQ(read->fields, Settings().fields);
}

TEST(Settings, ABrokenFileIsRefusedWithItsPlace) {
  EXPECT_EQ(refusal("\nfields = [\"MEMSZ\", \"NOPE\"]\n"),
            "top.toml:2: fields has 'NOPE', which is no column; the key f shows them all");
  EXPECT_EQ(refusal("fields = \"MEMSZ\"\n"), "top.toml:1: fields must be a list of column names");
  EXPECT_EQ(refusal("fields = [1]\n"),
            "top.toml:1: fields has something that is no text, which is no column; the key f shows "
            "them all");
  EXPECT_EQ(refusal("delay = 0.1\n"), "top.toml:1: delay must be seconds from 0.5 to 3600");
  EXPECT_EQ(refusal("delay = \"2\"\n"), "top.toml:1: delay must be seconds from 0.5 to 3600");
  EXPECT_EQ(refusal("delay = nan\n"), "top.toml:1: delay must be seconds from 0.5 to 3600");
  EXPECT_EQ(refusal("reverse = 1\n"), "top.toml:1: reverse must be true or false");
  EXPECT_EQ(refusal("sort = \"SIZE\"\n"), "top.toml:1: sort must be NAME or a column's name");
  EXPECT_EQ(
      refusal("colour = 1\n"),
      "top.toml:1: unknown key 'colour'; known are fields, sort, reverse, delay and only_vms");
  EXPECT_NE(refusal("fields = [").find("top.toml:1: "), std::string::npos);
}

TEST(Settings, AColumnStandsOnce) {
  const auto read = parse_settings("fields = [\"CNSM\", \"MEMSZ\", \"CNSM\"]\n", "top.toml");
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->fields, (std::vector<std::string>{"CNSM", "MEMSZ"}));
}

class SettingsFile : public testing::Test {
 protected:
  SettingsFile() : directory_(std::filesystem::temp_directory_path() / "top_settings_XXXXXX") {
    std::string name = directory_.string();
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  ~SettingsFile() override { std::filesystem::remove_all(directory_); }
  std::filesystem::path directory_;
};

TEST_F(SettingsFile, IsMadeWithItsDirectoryAndReadAgain) {
  const std::string path = directory_ / "a" / "b" / "top.toml";
  const auto none = load_settings(path);
  ASSERT_TRUE(none) << none.error().message;
  EXPECT_TRUE(*none == Settings());
  Settings settings;
  settings.only_vms = true;
  const Status saved = save_settings(settings, path);
  ASSERT_TRUE(saved) << saved.error().message;
  EXPECT_TRUE(*load_settings(path) == settings);
  const auto entries = std::filesystem::directory_iterator(directory_ / "a" / "b");
  EXPECT_EQ(std::distance(begin(entries), end(entries)), 1);
}

TEST_F(SettingsFile, APlaceThatIsNoneIsSaid) {
  std::ofstream(directory_ / "file") << "x";
  EXPECT_FALSE(save_settings(Settings(), directory_ / "file" / "top.toml"));
  EXPECT_FALSE(load_settings(directory_));
}

TEST_F(SettingsFile, LiesWhereTheUserKeepsSuchFiles) {
  setenv("XDG_CONFIG_HOME", "/x/config", 1);
  EXPECT_EQ(*settings_path(), "/x/config/ballast/top.toml");
  setenv("XDG_CONFIG_HOME", "relative", 1);  // the XDG specification ignores such
  setenv("HOME", "/home/x", 1);
  EXPECT_EQ(*settings_path(), "/home/x/.config/ballast/top.toml");
  unsetenv("XDG_CONFIG_HOME");
  EXPECT_EQ(*settings_path(), "/home/x/.config/ballast/top.toml");
  unsetenv("HOME");
  EXPECT_FALSE(settings_path());
}

}  // namespace
}  // namespace ballast::top
