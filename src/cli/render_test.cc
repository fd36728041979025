#include "cli/render.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>
#include <sstream>

#include "cli/json_output.h"
#include "cli/test_reports.h"

namespace ballast::cli {
namespace {

void expect_fits(const std::string& text, size_t width = 100) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), width) << line;
}

TEST(RenderLs, LooksLikeThis) {
  EXPECT_EQ(
      render_ls(make_observation(), {}),
      R"(NAME       CONFIG  TARGET  CONSUMED  ACTIVE  SHARES  ZIPPED  SWAPPED  BALLOON  SAVED  SWIN/s  WAIT/s
buil..eam    256M    128M      119M     64M    2560     32M      64M        0      0       -       -
db             1G    512M      478M    256M   10240    128M     256M        0      0       0       0
web1         256M    128M      119M     64M    2560     32M      64M        0      0     100     2.0
3 VMs: 1.5 GB promised on 1 GB (1.50 x); 900 MB consumed, 124 MB free, state soft
db is paused: page 1234 cannot be read back: its slot fails its checksum; mend that, then: ballast
    resume db
)");
}

TEST(RenderLs, FitsEvenWhenEverythingIsLong) {
  Observation observation = make_observation();
  VmReport& vm = observation.now.vms[0];
  vm.spec.name = std::string(64, 'n');
  vm.state = "leaving";
  observation.before->vms[0].spec.name = vm.spec.name;
  vm.spec.configured_bytes = vm.target_bytes = vm.consumed_bytes = vm.compressed_bytes =
      vm.swapped_bytes = vm.ballooned_bytes = vm.active_bytes = (1ull << 40) * 999 / 10;
  vm.swap_ins = vm.waits = 99'999'999;
  vm.shares = kSharesMax;
  expect_fits(render_ls(observation, {}));
}

TEST(RenderLs, SaysWhatMustNotBeOverlooked) {
  Observation observation = make_observation();
  observation.now.vms[0].blocked = true;
  observation.now.vms[1].state = "leaving";
  observation.now.vms[2].samples = 0;
  const std::string text = render_ls(observation, {});
  EXPECT_NE(text.find("web1 is blocked: the host is low on memory"), std::string::npos) << text;
  EXPECT_NE(text.find("db has 1 unreadable page\n"), std::string::npos) << text;
  EXPECT_NE(text.find("119M       -    2560"), std::string::npos) << "no estimate yet: " << text;
  observation.now.vms[1].lost_pages = 0;
  EXPECT_NE(render_ls(observation, {}).find("db is leaving\n"), std::string::npos);
  expect_fits(text);
}

TEST(RenderLs, ColoursABalloonThatDoesNotHelp) {
  Observation observation = make_observation();
  observation.now.vms[0].ballooned_bytes = 3 << 20;
  EXPECT_EQ(render_ls(observation, {.colours = true}).find("\x1b[33m3M"), std::string::npos);
  observation.now.vms[0].balloon_state = "stuck";
  EXPECT_NE(render_ls(observation, {.colours = true}).find("\x1b[33m3M"), std::string::npos);
}

TEST(RenderLs, WithoutVmsSaysHowToStartOne) {
  EXPECT_EQ(render_ls({}, {}),
            "No VM is running. Start one: ballast run --name NAME --memory SIZE -- QEMU-ARGS\n");
}

TEST(RenderLs, ColoursOnlyOnDemand) {
  EXPECT_EQ(render_ls(make_observation(), {}).find('\x1b'), std::string::npos);
  EXPECT_NE(render_ls(make_observation(), {.colours = true}).find("\x1b[31mdb"), std::string::npos);
}

TEST(RenderShow, LooksLikeThis) {
  const Observation observation = make_observation();
  const std::string text = render_show(observation.now.vms[0], observation, {});
  EXPECT_EQ(text, R"(web1: running, process 4711
  uuid 12345678-1234-1234-1234-123456789abc
  configured  256 MB
  min          64 MB
  limit         none
  shares        2560  normal; 17 % of all
  active       64 MB  +- 8 MB (slow 32 MB, fast 64 MB, now 16 MB)
  target      128 MB  decided by shares
  consumed    119 MB  = 102 MB resident + 16 MB compression cache + 1 MB overhead
  balloon      32 MB  of at most 128 MB, asked for 64 MB; inflating
Where the guest's memory is
  resident     102 MB  40 %
  shared          0 B   0 %
  compressed    32 MB  12 %  in 16 MB of cache (50 % of its size)
  swapped       64 MB  25 %  192 MB reserved on disk
  known zero    10 MB   4 %
  ballooned       0 B   0 %  given up by the guest
  untouched   47.6 MB  19 %
Page sharing: in salt group web, alone
  scanned at 0 pages/s; 0 pages known by their content (hints)
Activity          total  per second
  faults         123456        2000
  first touches    2048           0
  decompressed    34567           0  pages, for faults
  swapped in       4567         100  pages, read-ahead included
  compressed      45678           0  pages
  swapped out      5678           0  pages
  brought back      321           0  pages, before they were missed
  dropped clean     678           0  pages, not rewritten
  waits              12         2.0  faults that had to wait for memory
  sampling           99           0  faults that it cost
  scanned             0           0  pages, for sharing
  joined              0           0  pages, gave their frame for a shared one
  breaks              0           0  shared pages that were written
Faults are served within 12 us (half of them) and 850 us (99 %)
)");
  expect_fits(text);
}

TEST(RenderShow, PausedVmSaysWhyAndWhatToDo) {
  const Observation observation = make_observation();
  const std::string text = render_show(observation.now.vms[1], observation, {});
  EXPECT_EQ(text.substr(0, text.find("  uuid")), R"(db: paused, process 4711
  because page 1234 cannot be read back: its slot fails its checksum; mend that, then: ballast
    resume db
)");
  EXPECT_NE(text.find("  lost: 1 page cannot be read back\n"), std::string::npos);
  expect_fits(text);
}

TEST(RenderShow, TellsWhatIsNotThere) {
  Observation observation = make_observation();
  VmReport& vm = observation.now.vms[0];
  vm.samples = 0;
  vm.balloon_state = "none";
  vm.balloon_bytes = 0;
  vm.blocked = true;
  vm.spec.allocation.limit_bytes = 128u << 20;
  vm.spec.allocation.shares = {ShareLevel::kCustom, 2560};
  const std::string text = render_show(vm, observation, {});
  for (const char* line :
       {"  blocked: the host is low on memory and the VM above its target\n",
        "  limit       128 MB\n", "  shares        2560  custom; 17 % of all\n",
        "  active           -  not known yet: all that it has counts as active\n",
        "  balloon        0 B  no balloon\n"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << text;
  }
  expect_fits(text);
}

TEST(RenderHost, LooksLikeThis) {
  const std::string text = render_host(make_observation().now, {});
  EXPECT_EQ(text, R"(budget        1 GB
consumed    900 MB   88 %  = 897 MB by VMs + 3 MB by the daemon; at most 1020 MB so far
free        124 MB   12 %  state soft for 3 min 5 s: memory is being taken back gently
promised    1.5 GB  150 %  to 3 VMs, 384 MB of it guaranteed (min)
divided     860 MB   84 %  among the VMs, by shares; idle tax 75 %, variable
unreserved  512 MB   50 %  for the mins of further VMs
State soft below 41 MB free, hard below 20 MB, low below 10 MB (minFree 64 MB)
Reserved for later: 512 MB, 128 MB of it guaranteed (min); ends in 10 min 0 s
Where the promised memory is
  resident    614 MB  40 %
  shared         0 B   0 %  on 0 B of frames
  compressed  192 MB  12 %  in 96 MB of cache
  swapped     384 MB  25 %
  known zero   30 MB   2 %
  ballooned      0 B   0 %
  untouched   316 MB  21 %
The daemon has been running for 2 h 10 min
)");
  expect_fits(text);
}

TEST(RenderEvents, LooksLikeThis) {
  ASSERT_EQ(setenv("TZ", "UTC", 1), 0);
  tzset();
  const std::vector<Event> events = {
      {1, 1'700'000'000'123, "info", "", "daemon.started", "ballastd 0.1.0 manages 512 MB"},
      {2, 1'700'000'001'456, "info", "web1", "vm.admitted", "256 MB configured, 64 MB min"},
      {3, 1'700'000'100'000, "error", "web1", "swap.failed",
       "writing to /var/lib/ballast failed: No space left on device; web1 goes on with what is in "
       "memory and in its compression cache, and will be slower"}};
  const std::string text = render_events(events, {});
  EXPECT_EQ(text,
            R"(2023-11-14 22:13:20  info     host: ballastd 0.1.0 manages 512 MB (daemon.started)
2023-11-14 22:13:21  info     web1: 256 MB configured, 64 MB min (vm.admitted)
2023-11-14 22:15:00  error    web1: writing to /var/lib/ballast failed: No space left on device;
                     web1 goes on with what is in memory and in its compression cache, and will be
                     slower (swap.failed)
)");
  expect_fits(text);
}

TEST(JsonOutput, HasAllThatTheTablesShow) {
  const nlohmann::json ls = ls_to_json(make_observation());
  EXPECT_EQ(ls["host"]["budget_bytes"], 1u << 30);
  EXPECT_EQ(ls["host"].contains("vms"), false);
  EXPECT_EQ(ls["vms"][0]["name"], "web1");
  EXPECT_EQ(ls["vms"][0]["configured_bytes"], 268435456);
  EXPECT_EQ(ls["vms"][0]["faults_per_s"], 2000.0);
  EXPECT_EQ(ls["vms"][0]["swap_ins_per_s"], 100.0);
  EXPECT_EQ(ls["vms"][0]["waits_per_s"], 2.0);
  EXPECT_TRUE(ls["vms"][2]["faults_per_s"].is_null()) << "it was not there before";
  EXPECT_EQ(ls["vms"][1]["pause_reason"],
            "page 1234 cannot be read back: its slot fails its checksum");
  EXPECT_GT(ls["vms"][0]["untouched_bytes"], 0);
  EXPECT_EQ(host_to_json(make_observation())["vms"].size(), 3u);
}

TEST(Rates, AreUnknownAfterARestartOfDaemonOrVm) {
  Observation observation = make_observation();
  EXPECT_TRUE(observation.rates_of(observation.now.vms[0]));
  observation.now.vms[0].pid = 1;
  EXPECT_FALSE(observation.rates_of(observation.now.vms[0]));
  observation = make_observation();
  observation.now.uptime_ns = 5;
  EXPECT_FALSE(observation.rates_of(observation.now.vms[0]));
  observation = make_observation();
  observation.now.vms[0].faults = 0;
  EXPECT_FALSE(observation.rates_of(observation.now.vms[0]));
}

}  // namespace
}  // namespace ballast::cli
