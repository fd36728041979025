#include "cli/complete.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace ballast::cli {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;
using Words = std::vector<std::string>;

Words complete(const Words& words) {
  return completions(words, {[] {
                               return Words{"web1", "web2", "db"};
                             },
                             [] { return Words{"later"}; }});
}

TEST(Complete, Commands) {
  EXPECT_THAT(complete({}), Contains("doctor"));
  EXPECT_THAT(complete({""}), Contains("ls"));
  EXPECT_THAT(complete({"wh"}), ElementsAre("whatif", "why"));
  EXPECT_THAT(complete({"--run-dir", "/x", "unr"}), ElementsAre("unreserve"));
  EXPECT_THAT(complete({"nonsense", ""}), Contains("ls"));
}

TEST(Complete, OptionsOfTheCommandAndOfAll) {
  EXPECT_THAT(complete({"--"}), Contains("--json"));
  EXPECT_THAT(complete({"events", "--f"}), ElementsAre("--follow"));
  EXPECT_THAT(complete({"ls", "--j"}), ElementsAre("--json"));
  EXPECT_THAT(complete({"ls", "--"}), Not(Contains("--follow")));
}

TEST(Complete, NamesOfVms) {
  EXPECT_THAT(complete({"show", ""}), ElementsAre("db", "web1", "web2"));
  EXPECT_THAT(complete({"why", "w"}), ElementsAre("web1", "web2"));
  EXPECT_THAT(complete({"reclaim", "web1", ""}), IsEmpty());
  EXPECT_THAT(complete({"unreserve", ""}), ElementsAre("later"));
}

TEST(Complete, ValuesAndNamesOfOptions) {
  EXPECT_THAT(complete({"set", "web1", "--shares", ""}), ElementsAre("high", "low", "normal"));
  EXPECT_THAT(complete({"run", "--pshare", "o"}), ElementsAre("off", "on"));
  EXPECT_THAT(complete({"run", "--memory", ""}), IsEmpty());
  EXPECT_THAT(complete({"options", "Mem.Idle"}), ElementsAre("Mem.IdleTax=", "Mem.IdleTaxType="));
}

TEST(Complete, WhatIsQemusIsLeftAlone) {
  EXPECT_THAT(complete({"run", "--name", "a", "--", "-d"}), IsEmpty());
}

TEST(Complete, WithoutADaemonThereAreNoNames) {
  std::ostringstream out;
  print_completions({"--run-dir", "/nonexistent", "show", ""}, out);
  EXPECT_EQ(out.str(), "");
}

}  // namespace
}  // namespace ballast::cli
