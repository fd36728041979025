#include "daemon/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace ballast::daemon {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ConfigFiles : public testing::Test {
 protected:
  ConfigFiles() { std::filesystem::create_directories(directory_ + "/conf.d"); }
  ~ConfigFiles() override { std::filesystem::remove_all(directory_); }
  std::string write(const std::string& text, const std::string& name = "ballast.toml") const {
    std::string path = directory_ + "/" + name;
    std::ofstream(path) << text;
    return path;
  }

  const std::string directory_ = testing::TempDir() + "config." + std::to_string(getpid());
};

TEST_F(ConfigFiles, ReadsWhatTheManualShows) {
  Config config;
  const auto status = read_config_file(write(R"(
memory = "512M"
run_dir = "/tmp/run"
swap_dir = "/tmp/swap"
group = "staff"
log_level = "warning"
[options]
"Mem.MemZipMaxPct" = 20
Ballast.Victims = "random"
)"),
                                       config);
  ASSERT_TRUE(status) << status.error().message;
  EXPECT_EQ(config.memory_bytes, 512u << 20);
  EXPECT_EQ(config.run_dir, "/tmp/run");
  EXPECT_EQ(config.group, "staff");
  EXPECT_EQ(config.log_level, machine::Severity::kWarning);
  EXPECT_EQ(config.options.zip_max_percent, 20u);
  EXPECT_EQ(config.options.victims, VictimChoice::kRandom);
}

TEST_F(ConfigFiles, ErrorsNameFileAndLine) {
  const struct {
    const char* text;
    const char* expected;
  } cases[] = {
      {"\nmemory = \"lots\"", ":2: memory: 'lots' is not a size"},
      {"memory = 0", ":1: memory: 0 leaves nothing"},
      {"memory = 1\nspeed = 9", ":2: unknown key 'speed'; known are memory"},
      {"swapdir = \"/x\"", ":1: unknown key 'swapdir' (did you mean swap_dir?)"},
      {"a = [", ":1: "},
      {"run_dir = 7", ":1: run_dir must be a text"},
      {"run_dir = \"\"", ":1: run_dir: must not be empty"},
      {"[options]\n\"Mem.MemZipMaxPct\" = 101", ":2: Mem.MemZipMaxPct = '101' is refused"},
      {"[options]\nx = 1", ":2: unknown option 'x'; known"},
      {"[options]\nMem.IdelTax = 1",
       ":2: unknown option 'Mem.IdelTax' (did you mean Mem.IdleTax?)"},
      {"[options]\n\"Mem.IdleTax\" = [1]", ":2: Mem.IdleTax must be a text or a number"},
      {"options = 3", ":1: options must be a table"},
      {"log_level = \"loud\"", ":1: log_level: 'loud' is not a log level"},
  };
  for (const auto& item : cases) {
    Config config;
    const std::string path = write(item.text);
    const auto status = read_config_file(path, config);
    ASSERT_FALSE(status) << item.text;
    EXPECT_EQ(status.error().message.find(path + item.expected), 0u) << status.error().message;
  }
}

TEST_F(ConfigFiles, AllErrorsAreToldInTheOrderOfTheirLines) {
  Config config;
  const std::string first = write("speed = 9\nmemory = \"lots\"\n[options]\nx = 1\n");
  const std::string second = write("log_level = \"loud\"\n", "conf.d/10.toml");
  const auto read = read_config(directory_, config);
  ASSERT_FALSE(read);
  std::vector<std::string> places;
  std::istringstream lines(read.error().message);
  for (std::string line; std::getline(lines, line);) {
    places.push_back(line.substr(0, line.find(": ")));
  }
  EXPECT_THAT(places, ElementsAre(first + ":1", first + ":2", first + ":4", second + ":1"));
}

TEST_F(ConfigFiles, AMissingFileIsNamed) {
  Config config;
  const auto read = read_config("/nonexistent/ballastd.toml", config);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().message,
            "configuration file /nonexistent/ballastd.toml: No such file or directory");
}

TEST_F(ConfigFiles, OfADirectoryLaterFilesWin) {
  write("memory = \"1G\"\nlog_level = \"error\"\n[options]\n\"Mem.IdleTax\" = 10\n");
  write("memory = \"2G\"\n", "conf.d/20-second.toml");
  write("memory = \"3G\"\n[options]\n\"Mem.IdleTax\" = 20\n", "conf.d/10-first.toml");
  write("speed = 9\n", "conf.d/.30-hidden.toml");
  write("speed = 9\n", "conf.d/30-saved.toml~");
  Config config;
  const auto files = read_config(directory_, config);
  ASSERT_TRUE(files) << files.error().message;
  EXPECT_EQ(config.memory_bytes, uint64_t{2} << 30);
  EXPECT_EQ(config.options.idle_tax_percent, 20u);
  EXPECT_EQ(config.log_level, machine::Severity::kError);
  EXPECT_THAT(*files,
              ElementsAre(directory_ + "/ballast.toml", directory_ + "/conf.d/10-first.toml",
                          directory_ + "/conf.d/20-second.toml"));
  // A file by its name is read alone.
  Config alone;
  ASSERT_TRUE(read_config(directory_ + "/ballast.toml", alone));
  EXPECT_EQ(alone.memory_bytes, uint64_t{1} << 30);
}

TEST_F(ConfigFiles, AnEmptyDirectoryIsTheDefaults) {
  std::filesystem::remove_all(directory_ + "/conf.d");
  Config config;
  const auto files = read_config(directory_, config);
  ASSERT_TRUE(files);
  EXPECT_THAT(*files, IsEmpty());
  for (const ConfigKey& key : config_keys()) EXPECT_EQ(key.get(config), key.get(Config{}));
}

TEST(ConfigKeys, TakeWhatTheyGive) {
  Config config;
  ASSERT_TRUE(fill_defaults(config));
  config.group = kDefaultGroup;
  for (const ConfigKey& key : config_keys()) {
    Config copy;
    const auto set = key.set(copy, key.get(config));
    ASSERT_TRUE(set) << key.name << ": " << set.error().message;
    EXPECT_EQ(key.get(copy), key.get(config)) << key.name;
  }
}

TEST_F(ConfigFiles, TheHttpTableSaysWhereToListen) {
  Config config;
  const auto read = read_config_file(
      write("[http]\nlisten = \"[::1]:80\"\nnames = [\"a.example\", \"b\"]\nhistory = false\n"),
      config);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(config.http.address, "::1");
  EXPECT_EQ(config.http.port, 80);
  EXPECT_THAT(config.http.names, ElementsAre("a.example", "b"));
  EXPECT_FALSE(config.http.history);
  ASSERT_TRUE(read_config_file(write("[http]\nlisten = \"off\"\n"), config));
  EXPECT_FALSE(config.http.enable);
  const auto wrong = read_config_file(
      write("[http]\nlisten = \"here\"\nnames = [1]\nhistory = \"no\"\nport = 80\n"), config);
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().message,
              HasSubstr("ballast.toml:2: http.listen: 'here' is no address"));
  EXPECT_THAT(wrong.error().message,
              HasSubstr("ballast.toml:3: http.names must be a list of texts"));
  EXPECT_THAT(wrong.error().message,
              HasSubstr("ballast.toml:4: http.history: must be true or false"));
  EXPECT_THAT(wrong.error().message, HasSubstr("ballast.toml:5: unknown key 'http.port'"));
  EXPECT_THAT(read_config_file(write("http = 5\n"), config).error().message,
              HasSubstr("must be a table"));
}

// "# key = value", the key perhaps in quotes.
bool is_shown_setting(std::string_view line) {
  const size_t equals = line.find(" = ");
  if (!line.starts_with("# ") || equals == std::string_view::npos) return false;
  return std::ranges::all_of(line.substr(2, equals - 2), [](char c) {
    return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.' || c == '"';
  });
}

// Every "# key = value" of the shipped file, made a setting, must be the default; none may miss.
TEST_F(ConfigFiles, TheShippedFileShowsTheDefaults) {
  std::ifstream shipped(BALLAST_SOURCE_DIR "/packaging/ballast.toml");
  ASSERT_TRUE(shipped);
  std::string settings;
  size_t count = 0;
  for (std::string line; std::getline(shipped, line);) {
    if (is_shown_setting(line)) {
      settings += line.substr(2) + "\n";
      ++count;
    } else {
      EXPECT_TRUE(line.empty() || line[0] == '#' || line[0] == '[')
          << "set instead of shown: " << line;
      settings += line + "\n";
    }
  }
  EXPECT_EQ(count, config_keys().size() + all_options().size());
  Config config;
  const auto read = read_config_file(write(settings), config);
  ASSERT_TRUE(read) << read.error().message;
  Config defaults;
  ASSERT_TRUE(fill_defaults(defaults));
  defaults.run_dir = "/run/ballast";  // whatever BALLAST_RUN_DIR says here
  defaults.group = kDefaultGroup;
  EXPECT_EQ(config.memory_bytes, 0u) << "auto";
  config.memory_bytes = defaults.memory_bytes;
  for (const ConfigKey& key : config_keys()) {
    EXPECT_EQ(key.get(config), key.get(defaults)) << key.name;
    const size_t dot = key.name.find('.');  // of a table
    const std::string_view name =
        dot == std::string_view::npos ? key.name : key.name.substr(dot + 1);
    EXPECT_THAT(settings, HasSubstr(fmt::format("\n{} = ", name)));
  }
  for (const OptionInfo& option : all_options()) {
    EXPECT_EQ(*get_option(config.options, option.name), *get_option(Options{}, option.name))
        << option.name;
    EXPECT_THAT(settings, HasSubstr(fmt::format("\n\"{}\" = ", option.name)));
  }
}

}  // namespace
}  // namespace ballast::daemon
