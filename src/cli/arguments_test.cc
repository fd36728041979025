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
  EXPECT_EQ(parse({"why", "db"}).as<WhyArguments>().vm, "db");
  EXPECT_EQ(parse({"unreserve", "db"}).as<UnreserveArguments>().vm, "db");
  EXPECT_EQ(parse({"reclaim", "db", "1500K"}).as<ReclaimArguments>().vm, "db");
  EXPECT_EQ(parse({"reclaim", "db", "1500K"}).as<ReclaimArguments>().bytes, 1500u << 10);
  EXPECT_FALSE(parse({"events"}).as<EventsArguments>().follow);
  EXPECT_TRUE(parse({"events", "-f", "--since", "7"}).as<EventsArguments>().follow);
  EXPECT_EQ(parse({"events", "-f", "--since", "7"}).as<EventsArguments>().since, 7u);
}

TEST(Arguments, TopTakesASensiblePace) {
  EXPECT_FALSE(parse({"top"}).as<TopArguments>().batch);
  EXPECT_FALSE(parse({"top"}).as<TopArguments>().delay_seconds);
  const Parsed parsed = parse({"top", "-b", "-d", "0.5", "-n", "3"});
  EXPECT_TRUE(parsed.as<TopArguments>().batch);
  EXPECT_EQ(parsed.as<TopArguments>().delay_seconds, 0.5);
  EXPECT_EQ(parsed.as<TopArguments>().count, 3u);
  for (const auto& wrong : std::vector<std::vector<std::string>>{
           {"-d", "0.1"}, {"-d", "1e9"}, {"-d", "nan"}, {"-d", "x"}, {"-n", "0"}, {"-n", "-3"}}) {
    EXPECT_EQ(parse({"top", wrong[0], wrong[1]}).status(), kExitUsage) << wrong[1];
  }
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
              HasSubstr("a min of 2 GB exceeds its memory of 1 GB"));
  EXPECT_THAT(error_of({"--name", "a", "--memory", "1G", "--uuid", "7"}), HasSubstr("--uuid '7'"));
  EXPECT_THAT(error_of({"--name", "a", "--memory", "64T"}), HasSubstr("below 16 TB"));
  EXPECT_THAT(error_of({"--memory", "1G"}), HasSubstr("--name is required"));
  EXPECT_THAT(error_of({"--name", "a", "--memory", "1G", "-nographic"}),
              HasSubstr("QEMU's own options go after '--'"));
}

TEST(Arguments, RunAndSetTakeAllocations) {
  const Parsed run = parse({"run", "--name", "a", "--memory", "1G", "--min=64M", "--limit", "512M",
                            "--shares", "high", "--balloon-max", "256M"});
  ASSERT_EQ(run.status(), -1) << run.err;
  EXPECT_EQ(run.as<RunArguments>().spec.allocation, (Allocation{.min_bytes = 64u << 20,
                                                                .limit_bytes = 512u << 20,
                                                                .shares = {ShareLevel::kHigh, 0},
                                                                .balloon_max_bytes = 256u << 20}));
  EXPECT_EQ(parse({"run", "--name", "a", "--memory", "1G"}).as<RunArguments>().spec.allocation,
            Allocation{});
  const Parsed set = parse({"set", "web1", "--min", "0", "--limit", "none", "--shares=2000",
                            "--balloon-max", "default"});
  ASSERT_EQ(set.status(), -1) << set.err;
  EXPECT_EQ(set.as<SetArguments>().vm, "web1");
  EXPECT_EQ(set.as<SetArguments>().change.allocation,
            (AllocationChange{.min_bytes = 0,
                              .limit_bytes = kNoLimit,
                              .shares = Shares{ShareLevel::kCustom, 2000},
                              .balloon_max_bytes = kDefaultBalloonMax}));
  EXPECT_EQ(parse({"set", "web1", "--shares", "low"}).as<SetArguments>().change,
            (VmChange{.allocation = {.shares = Shares{ShareLevel::kLow, 0}}}));
}

TEST(Arguments, RunAndSetTakeSalts) {
  const auto run_with = [](std::vector<std::string> words) {
    words.insert(words.begin(), {"run", "--name", "a", "--memory", "1G"});
    const Parsed run = parse(words);
    EXPECT_EQ(run.status(), -1) << run.err;
    return run.as<RunArguments>().spec;
  };
  EXPECT_EQ(run_with({"--salt", "web"}).salt, "web");
  EXPECT_TRUE(run_with({"--salt", "web"}).share_enable);
  EXPECT_EQ(run_with({"--salt", "none", "--pshare", "on"}).salt, "");
  EXPECT_FALSE(run_with({"--salt", "web", "--pshare", "off"}).share_enable);
  EXPECT_EQ(run_with({}).salt, "");
  EXPECT_TRUE(run_with({}).share_enable);
  EXPECT_EQ(parse({"set", "a", "--salt", "web", "--min", "0"}).as<SetArguments>().change,
            (VmChange{.allocation = {.min_bytes = 0}, .power_on = {.salt = "web"}}));
  EXPECT_EQ(parse({"set", "a", "--salt=none", "--pshare=default"}).as<SetArguments>().change,
            (VmChange{.power_on = {.salt = "", .sharing = PageSharing::kAsStarted}}));
  EXPECT_EQ(parse({"set", "a", "--pshare", "off"}).as<SetArguments>().change,
            (VmChange{.power_on = {.sharing = PageSharing::kOff}}));
}

TEST(Arguments, WhatIfCollectsVmsAndChanges) {
  const Parsed parsed = parse({"whatif", "--add", "2x1G,min=512M", "--set", "a.shares=5", "--add",
                               "256M", "--set", "b.limit=none", "--set", "a.min=0"});
  ASSERT_EQ(parsed.status(), -1) << parsed.err;
  const WhatIfQuestion& question = parsed.as<WhatIfArguments>().question;
  ASSERT_EQ(question.add.size(), 3u);
  EXPECT_EQ(question.add[1].allocation.min_bytes, 512u << 20);
  EXPECT_EQ(question.add[2].configured_bytes, 256u << 20);
  ASSERT_EQ(question.set.size(), 2u);
  EXPECT_EQ(question.set[0].second,
            (AllocationChange{.min_bytes = 0, .shares = Shares{ShareLevel::kCustom, 5}}));
  EXPECT_EQ(parse({"whatif", "--add", "1G", "2G"}).status(), kExitUsage) << "one word each";
}

TEST(Arguments, OptionsAndReservations) {
  EXPECT_EQ(parse({"options"}).as<OptionsArguments>().name, "");
  const auto one = parse({"options", "Mem.IdleTax"}).as<OptionsArguments>();
  EXPECT_EQ(one.name, "Mem.IdleTax");
  EXPECT_FALSE(one.value);
  const auto set = parse({"options", "Ballast.Victims=a=b"}).as<OptionsArguments>();
  EXPECT_EQ(set.name, "Ballast.Victims");
  EXPECT_EQ(set.value, "a=b");
  const auto reserve =
      parse({"reserve", "db", "--memory", "8G", "--min", "4G"}).as<ReserveArguments>();
  EXPECT_EQ(reserve.spec.name, "db");
  EXPECT_EQ(reserve.spec.configured_bytes, 8ull << 30);
  EXPECT_EQ(reserve.spec.allocation.min_bytes, 4ull << 30);
  EXPECT_EQ(reserve.seconds, 600u);
  EXPECT_EQ(
      parse({"reserve", "db", "--memory", "8G", "--for", "2h"}).as<ReserveArguments>().seconds,
      7200u);
}

TEST(Arguments, WrongAllocationsAreExplained) {
  const std::vector<std::pair<std::vector<std::string>, const char*>> table = {
      {{"set", "web1"},
       "nothing to set: give --min, --limit, --shares, --balloon-max, --salt or --pshare"},
      {{"set", "web1", "--salt", "a b"},
       "--salt: a salt of 3 bytes is refused: 1 to 128 printable"},
      {{"set", "web1", "--salt", ""}, "characters without blanks are needed, or none"},
      {{"set", "web1", "--pshare", "yes"}, "--pshare: page sharing 'yes' is refused: on, off or"},
      {{"run", "--name", "a", "--memory", "1G", "--salt", "a b"}, "--salt: a salt of 3 bytes"},
      {{"run", "--name", "a", "--memory", "1G", "--pshare", "1"}, "--pshare: page sharing '1'"},
      {{"set"}, "VM is required"},
      {{"set", "a b", "--min", "0"}, "'a b' is no name"},
      {{"set", "web1", "--min", "64"}, "--min 64: without a unit these are bytes"},
      {{"set", "web1", "--limit", "all"}, "for example 512M or 1.5G, or none"},
      {{"set", "web1", "--shares", "0"}, "shares '0' are refused: low, normal, high"},
      {{"set", "web1", "--shares", ""}, "shares '' are refused"},
      {{"set", "web1", "--balloon-max", "half"}, "or default"},
      {{"set", "web1", "--max", "1G"}, "--max"},
      {{"run", "--name", "a", "--memory", "1G", "--min", "512M", "--limit", "256M"},
       "a min of 512 MB exceeds its limit of 256 MB"},
      {{"run", "--name", "a", "--memory", "1G", "--balloon-max", "2G"},
       "a balloon of up to 2 GB exceeds its memory of 1 GB"},
      {{"whatif"}, "what if what?"},
      {{"whatif", "--add", "lots"}, "--add: 'lots' is not a size"},
      {{"whatif", "--set", "web1"}, "write VM.shares=2000"},
      {{"options", "=3"}, "'=3' names no option"},
      {{"reserve", "db", "--min", "1G"}, "--memory is required"},
      {{"reserve", "db", "--memory", "1G", "--min", "2G"}, "a min of 2 GB exceeds"},
      {{"reserve", "db", "--memory", "1G", "--for", "10"}, "'10' is no time"},
      {{"unreserve", "a/b"}, "'a/b' is no name"},
      {{"reclaim", "web1"}, "SIZE is required"},
      {{"reclaim", "web1", "0"}, "nothing to do"},
      {{"reclaim", "web1", "much"}, "'much' is not a size"},
      {{"why"}, "VM is required"},
  };
  for (const auto& [words, text] : table) {
    const Parsed parsed = parse(words);
    EXPECT_EQ(parsed.status(), kExitUsage) << ::testing::PrintToString(words);
    EXPECT_THAT(parsed.err, HasSubstr(text)) << ::testing::PrintToString(words);
  }
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
  std::vector<std::vector<std::string>> all = {{"--help"}, {"events", "-h"}};
  for (const char* command : {"run", "ls", "show", "why", "host", "events", "set", "whatif",
                              "options", "reserve", "unreserve", "reclaim", "resume", "version"}) {
    all.push_back({command, "--help"});
  }
  for (const auto& words : all) {
    const Parsed parsed = parse(words);
    EXPECT_EQ(parsed.status(), 0);
    EXPECT_EQ(parsed.err, "");
    EXPECT_THAT(parsed.out, HasSubstr("ballast"));
    std::istringstream lines(parsed.out);
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100u) << line;
  }
  EXPECT_THAT(parse({"run", "--help"}).out, HasSubstr("ballast run --name web1 --memory 2G"));
  for (const char* command :
       {"why", "set", "whatif", "options", "reserve", "unreserve", "reclaim"}) {
    EXPECT_THAT(parse({command, "--help"}).out, HasSubstr(std::string("  ballast ") + command));
  }
}

TEST(Arguments, AnUnknownCommandIsAnsweredWithWhatWasPerhapsMeant) {
  EXPECT_THAT(parse({"optoins"}).err,
              HasSubstr("'optoins' is no command (did you mean options?); known are "));
}

}  // namespace
}  // namespace ballast::cli
