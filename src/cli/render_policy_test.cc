// Golden texts of what tells about allocations: why, whatif, options, set.
#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>
#include <sstream>

#include "cli/render.h"
#include "cli/test_reports.h"

namespace ballast::cli {
namespace {

class RenderPolicy : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(setenv("TZ", "UTC", 1), 0);
    tzset();
  }
};

void expect_fits(const std::string& text, size_t width = 100) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), width) << line;
}

TEST_F(RenderPolicy, WhyLooksLikeThis) {
  const HostReport host = make_observation().now;
  const std::vector<Event> events = {
      {2, 1'700'000'001'456, "info", "web1", "vm.admitted", "256 MB configured, 64 MB min"}};
  const std::string text = render_why(host.vms[0], host, events, {});
  EXPECT_EQ(text, R"(web1 consumes 119 MB; its target is 128 MB, of 256 MB configured.
Its shares decide that: 17 % of all shares buy it so much of the 860 MB that are divided among the
VMs; it could use 192 MB.
It may grow by 8.6 MB before it reaches its target.
  shares        2560 (normal: 10 for each MB of its memory), 17 % of all 15360
  active        64 MB +- 8 MB (slow 32 MB, fast 64 MB, now 16 MB), from 42 periods
  tax           75 %, variable: an idle page costs up to 4.0 times what an active one costs, the
                more, the more of the VM is idle; 46 % of what it has is idle
  wants         192 MB: what it uses and some to grow
  min           64 MB: it is never left with less
  limit         none: it may have all of its memory
  host          state soft for 3 min 5 s (memory is being taken back gently): 124 MB free of 1 GB;
                soft below 41 MB, hard below 20 MB, low below 10 MB
  sharing       nothing yet: it is in salt group web, alone
  scan          0 pages/s; 0 pages scanned, 0 joined a shared frame, 0 written since (breaks), 0
                known by their content (hints)
  balloon       32 MB of at most 128 MB, asked for 64 MB; inflating: the guest is giving memory up
  guest says    224 MB in all, 16 MB available
  compressed    32 MB in 16 MB of cache; last at 2023-11-14 22:13:20
  swapped       64 MB; none since the daemon began to serve it
  returned      34567 pages decompressed and 4567 read for faults, 321 read before they were missed
  blocked       no
Its last events
2023-11-14 22:13:21  info     web1: 256 MB configured, 64 MB min (vm.admitted)
)");
  expect_fits(text);
}

TEST_F(RenderPolicy, WhySaysWhatDecidesTheTarget) {
  HostReport host = make_observation().now;
  VmReport& vm = host.vms[0];
  vm.spec.allocation.limit_bytes = 128u << 20;
  const std::vector<std::pair<const char*, const char*>> table = {
      {"shares", "Its shares decide that: 17 % of all shares"},
      {"min", "64 MB and its overhead of 1 MB are guaranteed to it."},
      {"want", "Its own need decides that"},
      {"limit", "it may never have more than 128 MB, however much memory is free"},
      {"limit", "'ballast set web1 --limit none' lifts it"},
      {"max", "it may have all of its 256 MB."},
      {"mood", "does not know what decides that"},
      {"", "does not know what decides that"}};
  for (const auto& [bound, words] : table) {
    vm.bound = bound;
    const std::string text = render_why(vm, host, {}, {.width = 0});
    EXPECT_NE(text.find(words), std::string::npos) << bound << '\n' << text;
    expect_fits(render_why(vm, host, {}, {}));
  }
}

TEST_F(RenderPolicy, WhySaysHowItStandsToItsTarget) {
  HostReport host = make_observation().now;
  VmReport& vm = host.vms[0];
  vm.consumed_bytes = vm.target_bytes + (32u << 20);
  const std::vector<std::pair<const char*, const char*>> table = {
      {"high", "32 MB above its target; nothing is taken from it while enough is free."},
      {"clear", "nothing is taken from it while enough is free."},
      {"soft", "its balloon takes that back, or paging where the balloon cannot."},
      {"hard", "it is being compressed and swapped down to it."},
      {"low", "it is being compressed and swapped down to it."}};
  for (const auto& [state, words] : table) {
    host.state = state;
    const std::string text = render_why(vm, host, {}, {});
    EXPECT_NE(text.find(words), std::string::npos) << state << '\n' << text;
  }
  host.state = "high";
  vm.bound = "limit";
  EXPECT_NE(render_why(vm, host, {}, {}).find("taken back in every state"), std::string::npos);
}

TEST_F(RenderPolicy, WhyExplainsEveryBalloonCondition) {
  HostReport host = make_observation().now;
  for (const char* state : {"unreachable", "no-driver", "paused", "idle", "inflating", "deflating",
                            "stuck", "spared", "full"}) {
    host.vms[0].balloon_state = state;
    const std::string text = render_why(host.vms[0], host, {}, {});
    EXPECT_NE(text.find(std::string("asked for 64 MB; ") + state + ": "), std::string::npos)
        << text;
    EXPECT_EQ(text.find("unknown to this program"), std::string::npos) << state;
    expect_fits(text);
  }
  host.vms[0].balloon_state = "none";
  EXPECT_NE(render_why(host.vms[0], host, {}, {})
                .find("  balloon       none: the VM has no balloon device"),
            std::string::npos);
}

TEST_F(RenderPolicy, WhyTellsOfTaxesAndTroubles) {
  HostReport host = make_observation().now;
  VmReport& vm = host.vms[0];
  vm.samples = 0;
  vm.blocked = true;
  vm.state = "paused";
  vm.pause_reason = "its disk is full\x1b[2J";
  vm.spec.allocation = {.limit_bytes = 128u << 20, .shares = {ShareLevel::kCustom, 2560}};
  vm.guest_total_bytes = 0;
  host.idle_tax_type = "flat";
  host.idle_tax_percent = 50;
  std::string text = render_why(vm, host, {}, {});
  for (const char* words :
       {"  tax           50 %, flat: an idle page costs 2.0 times what an active one costs\n",
        "  active        not known yet: all that it has counts as active\n",
        "  shares        2560 (a number of its own), 17 % of all 15360\n",
        "  min           none: all of it may be taken\n",
        "  limit         128 MB: never more, however much is free\n",
        "  guest says    nothing of its memory\n",
        "  blocked       yes: the host is low on memory and the VM above its target",
        "It is paused: its disk is full?[2J.\n"}) {
    EXPECT_NE(text.find(words), std::string::npos) << words << '\n' << text;
  }
  expect_fits(text);
  host.idle_tax_percent = 0;
  EXPECT_NE(render_why(vm, host, {}, {}).find("tax           none: an idle page costs what an"),
            std::string::npos);
}

TEST_F(RenderPolicy, WhatIfLooksLikeThis) {
  constexpr uint64_t kMegabyte = 1u << 20;
  WhatIfAnswer answer;
  answer.rows = {{.name = "db",
                  .configured_bytes = 1024 * kMegabyte,
                  .min_bytes = 256 * kMegabyte,
                  .shares = 10240,
                  .target_now_bytes = 700 * kMegabyte,
                  .target_then_bytes = 500 * kMegabyte,
                  .want_bytes = 700 * kMegabyte,
                  .bound_now = "want",
                  .bound_then = "shares"},
                 {.name = "web1",
                  .configured_bytes = 256 * kMegabyte,
                  .limit_bytes = 128 * kMegabyte,
                  .shares = 2000,
                  .target_now_bytes = 100 * kMegabyte,
                  .target_then_bytes = 128 * kMegabyte,
                  .want_bytes = 200 * kMegabyte,
                  .bound_now = "limit",
                  .bound_then = "limit"},
                 {.name = "new1",
                  .configured_bytes = 1024 * kMegabyte,
                  .shares = 20480,
                  .is_new = true,
                  .target_then_bytes = 200 * kMegabyte,
                  .want_bytes = 1024 * kMegabyte,
                  .bound_then = "shares"}};
  answer.divided_now_bytes = 860 * kMegabyte;
  answer.divided_then_bytes = 850 * kMegabyte;
  std::string text = render_what_if(answer, {});
  EXPECT_EQ(text,
            R"(NAME  CONFIG   MIN  LIMIT  SHARES  WANT  TARGET NOW  THEN  CHANGE  DECIDED BY
db        1G  256M   none   10240  700M        700M  500M   -200M  want -> shares
web1    256M     0   128M    2000  200M        100M  128M    +28M  limit
new1      1G     0   none   20480    1G         new  200M   +200M  shares
Divided among the VMs: 860 MB now, 850 MB then
New VMs are taken to use all their memory, actively: the worst case
They would be admitted
)");
  answer.rows[0].name = std::string(64, 'n');
  answer.rows[0].target_then_bytes = answer.rows[0].target_now_bytes + 4096;
  answer.refusal =
      "new1 needs 1.1 GB (min 1 GB + overhead 100 MB), but of the budget of 1 GB only "
      "512 MB are unreserved";
  text = render_what_if(answer, {});
  EXPECT_EQ(text.find("They would be admitted"), std::string::npos);
  EXPECT_NE(text.find("       =  want -> shares\n"), std::string::npos) << text;
  EXPECT_NE(text.find("It would be refused: new1 needs 1.1 GB"), std::string::npos);
  expect_fits(text);
  answer.rows.pop_back();
  EXPECT_EQ(render_what_if(answer, {}).find("New VMs are taken"), std::string::npos);
}

TEST_F(RenderPolicy, OptionsLookLikeThis) {
  const std::vector<OptionReport> options = {
      {"Mem.IdleTax", "50", "75", "0 to 99", "% of idle memory that may be taken", true},
      {"Ballast.Victims", "second-chance", "second-chance", "random, second-chance",
       "which pages are swapped first", false}};
  EXPECT_EQ(render_options(options, {}),
            R"(OPTION                   VALUE  MEANING
Mem.IdleTax                 50  % of idle memory that may be taken (default 75)
Ballast.Victims  second-chance  which pages are swapped first
)");
  EXPECT_NE(render_options(options, {.colours = true}).find("\x1b[33mMem.IdleTax"),
            std::string::npos);
  EXPECT_EQ(render_option(options[0], "not written to the configuration file"),
            R"(Mem.IdleTax = 50 (default 75); a change takes effect at once
  % of idle memory that may be taken; allowed: 0 to 99
  not written to the configuration file
)");
  EXPECT_EQ(render_option(options[1], ""),
            R"(Ballast.Victims = second-chance; a change is for VMs that start from then on
  which pages are swapped first; allowed: random, second-chance
)");
}

TEST_F(RenderPolicy, AllOptionsFit) {
  std::vector<OptionReport> options;
  for (const OptionInfo& info : all_options()) options.push_back(report_option({}, info));
  expect_fits(render_options(options, {}));
  for (OptionReport& option : options) option.default_value = "something else";
  expect_fits(render_options(options, {}));
}

}  // namespace
}  // namespace ballast::cli
