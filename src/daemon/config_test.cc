#include "daemon/config.h"

#include <gtest/gtest.h>

#include <fstream>

namespace ballast::daemon {
namespace {

std::string write(const std::string& text) {
  std::string path = testing::TempDir() + "ballastd.toml";
  std::ofstream(path) << text;
  return path;
}

TEST(Config, ReadsWhatTheManualShows) {
  Config config;
  const auto status = read_config_file(write(R"(
memory = "512M"
run_dir = "/tmp/run"
swap_dir = "/tmp/swap"
log_level = "warning"
[options]
"Mem.MemZipMaxPct" = 20
"Ballast.Victims" = "random"
)"),
                                       config);
  ASSERT_TRUE(status) << status.error().message;
  EXPECT_EQ(config.memory_bytes, 512u << 20);
  EXPECT_EQ(config.run_dir, "/tmp/run");
  EXPECT_EQ(config.log_level, machine::Severity::kWarning);
  EXPECT_EQ(config.options.zip_max_percent, 20u);
  EXPECT_EQ(config.options.victims, VictimChoice::kRandom);
}

TEST(Config, ErrorsNameFileAndLine) {
  const struct {
    const char* text;
    const char* expected;
  } cases[] = {
      {"\nmemory = \"lots\"", ":2: memory: 'lots' is not a size"},
      {"memory = 1\nspeed = 9", ":2: unknown key 'speed'"},
      {"a = [", ":1: "},
      {"run_dir = 7", ":1: run_dir must be a text"},
      {"[options]\n\"Mem.MemZipMaxPct\" = 101", ":2: Mem.MemZipMaxPct = '101' is refused"},
      {"[options]\nx = 1", ":2: unknown option 'x'"},
      {"options = 3", ":1: options must be a table"},
      {"log_level = \"loud\"", ":1: 'loud' is not a log level"},
  };
  for (const auto& item : cases) {
    Config config;
    const std::string path = write(item.text);
    const auto status = read_config_file(path, config);
    ASSERT_FALSE(status) << item.text;
    EXPECT_EQ(status.error().message.find(path + item.expected), 0u) << status.error().message;
  }
}

TEST(Config, AMissingFileIsNamed) {
  Config config;
  const auto status = read_config_file("/nonexistent/ballastd.toml", config);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().message,
            "configuration file /nonexistent/ballastd.toml: No such file or directory");
}

}  // namespace
}  // namespace ballast::daemon
