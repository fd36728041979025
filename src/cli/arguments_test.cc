#include "cli/arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace ballast::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Parsed {
  std::variant<Arguments, int> result;
  std::string out, err;

  const Arguments& arguments() const { return std::get<Arguments>(result); }
  int status() const { return std::holds_alternative<int>(result) ? std::get<int>(result) : -1; }
  template <typename Command>
  const Command& as() const {
    return std::get<Command>(arguments().command);
  }
};

Parsed parse(std::vector<std::string> words) {
  std::ostringstream out, err;
  auto result = parse_arguments(std::move(words), out, err);
  return {std::move(result), out.str(), err.str()};
}

TEST(Arguments, GlobalOptionsStandBeforeOrAfterTheCommand) {
  for (const auto& words : std::vector<std::vector<std::string>>{
           {"--json", "--run-dir", "/x", "--interval", "0", "show", "web1"},
           {"show", "--json", "web1", "--run-dir=/x", "--interval=0"},
           {"--run-dir", "/x", "show", "web1", "--json", "--interval", "0"}}) {
    const Parsed parsed = parse(words);
    ASSERT_EQ(parsed.status(), -1) << parsed.err;
    EXPECT_TRUE(parsed.arguments().json);
    EXPECT_EQ(parsed.arguments().run_dir, "/x");
    EXPECT_EQ(parsed.arguments().interval.count(), 0);
    EXPECT_EQ(parsed.as<ShowArguments>().vm, "web1");
  }
}

TEST(Arguments, EveryCommandIsKnown) {
  EXPECT_TRUE(std::holds_alternative<LsArguments>(parse({"ls"}).arguments().command));
  EXPECT_TRUE(std::holds_alternative<HostArguments>(parse({"host"}).arguments().command));
  EXPECT_TRUE(std::holds_alternative<VersionArguments>(parse({"version"}).arguments().command));
  EXPECT_EQ(parse({"resume", "db"}).as<ResumeArguments>().vm, "db");
  EXPECT_FALSE(parse({"events"}).as<EventsArguments>().follow);
  EXPECT_TRUE(parse({"events", "-f", "--since", "7"}).as<EventsArguments>().follow);
  EXPECT_EQ(parse({"events", "-f", "--since", "7"}).as<EventsArguments>().since, 7u);
}

TEST(Arguments, RunPassesQemusWordsOnUntouched) {
  const Parsed parsed = parse({"run", "--name", "web1", "--memory", "256M", "--min=64M", "--", "-m",
                               "256", "ls", "--json", "--help", "--", "-name", "a b"});
  ASSERT_EQ(parsed.status(), -1) << parsed.err;
  const auto& run = parsed.as<RunArguments>();
  EXPECT_EQ(run.spec.name, "web1");
  EXPECT_EQ(run.spec.configured_bytes, 256u << 20);
  EXPECT_EQ(run.spec.allocation.min_bytes, 64u << 20);
  EXPECT_FALSE(parsed.arguments().json);
  EXPECT_THAT(run.qemu, ElementsAre("-m", "256", "ls", "--json", "--help", "--", "-name", "a b"));
}

TEST(Arguments, RunRefusesWhatCannotBe) {
  const auto error_of = [](std::vector<std::string> words) {
    words.insert(words.begin(), "run");
    const Parsed parsed = parse(std::move(words));
    EXPECT_EQ(parsed.status(), kExitUsage);
    return parsed.err;
  };
  EXPECT_THAT(error_of({"--name", "a/b", "--memory", "1G"}), HasSubstr("'a/b' is no name"));
  EXPECT_THAT(error_of({"--name", "a", "--memory", "lots"}), HasSubstr("--memory: 'lots'"));
  EXPECT_THAT(error_of({"--name", "a", "--memory", "0"}), HasSubstr("a VM needs some"));
  EXPECT_THAT(error_of({"--name", "a", "--memory", "1500K"}), HasSubstr("write for example 1M"));
  EXPECT_THAT(error_of({"--name", "a", "--memory", "1G", "--min", "2G"}),
              HasSubstr("--min 2G exceeds --memory 1G"));
  EXPECT_THAT(error_of({"--name", "a", "--memory", "1G", "--uuid", "7"}), HasSubstr("--uuid '7'"));
  EXPECT_THAT(error_of({"--name", "a", "--memory", "64T"}), HasSubstr("below 16 TB"));
  EXPECT_THAT(error_of({"--memory", "1G"}), HasSubstr("--name is required"));
  EXPECT_THAT(error_of({"--name", "a", "--memory", "1G", "-nographic"}),
              HasSubstr("QEMU's own options go after '--'"));
}

TEST(Arguments, WrongCommandLinesAreExplained) {
  EXPECT_EQ(parse({}).status(), kExitUsage);
  EXPECT_THAT(parse({}).err, HasSubstr("Examples:"));
  EXPECT_EQ(parse({"list"}).status(), kExitUsage);
  EXPECT_THAT(parse({"list"}).err, HasSubstr("list"));
  EXPECT_EQ(parse({"show"}).status(), kExitUsage);
  EXPECT_THAT(parse({"show", "a b"}).err, HasSubstr("'a b' is no name"));
  EXPECT_THAT(parse({"ls", "--", "x"}).err, HasSubstr("'ls' takes nothing after '--'"));
  EXPECT_THAT(parse({"ls", "--interval", "-1"}).err, HasSubstr("--interval"));
  EXPECT_THAT(parse({"ls", "--interval", "nan"}).err, HasSubstr("--interval"));
}

TEST(Arguments, HelpHasExamplesAndFits100Columns) {
  for (const auto& words : std::vector<std::vector<std::string>>{
           {"--help"}, {"run", "--help"}, {"ls", "--help"}, {"events", "-h"}, {"show", "--help"}}) {
    const Parsed parsed = parse(words);
    EXPECT_EQ(parsed.status(), 0);
    EXPECT_EQ(parsed.err, "");
    EXPECT_THAT(parsed.out, HasSubstr("ballast"));
    std::istringstream lines(parsed.out);
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100u) << line;
  }
  EXPECT_THAT(parse({"run", "--help"}).out, HasSubstr("ballast run --name web1 --memory 2G"));
}

}  // namespace
}  // namespace ballast::cli
