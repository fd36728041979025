#include "top/screen.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>
#include <sstream>

#include "cli/test_reports.h"
#include "top/keys.h"
#include "top/press.h"

namespace ballast::top {
namespace {

constexpr uint64_t kMb = 1 << 20;

View make_view() {
  setenv("TZ", "UTC", 1);
  tzset();
  View view;
  view.observation = cli::make_observation();
  HostReport& host = view.observation->now;
  host.machine_total_bytes = 4096 * kMb;
  host.machine_available_bytes = 1500 * kMb;
  host.overcommit_1min_percent = 54;
  host.overcommit_5min_percent = 50;
  host.overcommit_15min_percent = 1234;
  for (VmReport& vm : host.vms) {
    vm.arena_max_bytes = vm.spec.configured_bytes / 10;
    vm.swap_target_bytes = vm.swapped_bytes + 5 * kMb;
  }
  view.unix_ms = 1'700'000'000'123;
  return view;
}

std::string shown(View view, Size size, bool colours = false) {
  settle(view, size);
  return render(view, size, colours);
}

// Nothing is wider or longer than the screen, and all is ASCII.
void expect_fits(const std::string& screen, const Size& size) {
  std::istringstream lines(screen);
  size_t count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    EXPECT_LE(line.size(), size.columns) << line;
    for (const char c : line) EXPECT_TRUE(c >= ' ' && c <= '~') << line;
  }
  EXPECT_LE(count, size.rows);
}

TEST(Screen, LooksLikeThisIn80Columns) {
  EXPECT_EQ(shown(make_view(), {80, 24}),
            R"(22:13:20 up 2 h 10 min, 3 VMs; MEM overcommit avg: 0.54, 0.50, 12.34
PMEM  /MB:  4096   total:    9.0     vmk,   2587 other,   1500  free
VMKMEM/MB:  1024 managed:     64 minfree,    512 rsvd,    512 ursvd, soft state
PSHARE/MB:    30  shared:      0  common,     30 saving
SWAP  /MB:   384    curr:    399 rclmtgt,   0.39  r/s,   0.00   w/s
ZIP   /MB:   192  zipped:     96   saved
MEMCTL/MB:   192    curr:    384  target,    768  max
web1 waits for memory, db has lost a page
 NAME >             MEMSZ   GRANT    CNSM   SZTGT    TCHD %ACTV  MCTLSZ   SWCUR
>build-f..el-team     256     112     119     128      64     6      32      64
 db                  1024     420     478     512     256     6     128     256
 web1                 256     112     119     128      64     6      32      64
 (ballastd)             -       -     3.0       -       -     -       -       -
 (reserved later)     512       -       -       -       -     -       -       -)");
}

TEST(Screen, LooksLikeThisIn200Columns) {
  EXPECT_EQ(shown(make_view(), {200, 24}),
            R"(22:13:20 up 2 h 10 min, 3 VMs; MEM overcommit avg: 0.54, 0.50, 12.34
PMEM  /MB:  4096   total:    9.0     vmk,   2587 other,   1500  free
VMKMEM/MB:  1024 managed:     64 minfree,    512 rsvd,    512 ursvd, soft state
PSHARE/MB:    30  shared:      0  common,     30 saving
SWAP  /MB:   384    curr:    399 rclmtgt,   0.39  r/s,   0.00   w/s
ZIP   /MB:   192  zipped:     96   saved
MEMCTL/MB:   192    curr:    384  target,    768  max
web1 waits for memory, db has lost a page
 NAME >                          MEMSZ   GRANT    CNSM   SZTGT    TCHD %ACTV  MCTLSZ   SWCUR   SWR/s   SWW/s   SWTGT MCTL? MCTLTGT MCTLMAX CACHEUSD CACHESZ   ZIP/s UNZIP/s    SHRD    ZERO SHRDSVD
>build-farm-of-the-kernel-team     256     112     119     128      64     6      32      64       -       -      69     Y      64     128       16      26       -       -      10      10      10
 db                               1024     420     478     512     256     6     128     256    0.00    0.00     261     Y     256     512       64     102    0.00    0.00      10      10      10
 web1                              256     112     119     128      64     6      32      64    0.39    0.00      69     Y      64     128       16      26    0.00    0.00      10      10      10
 (ballastd)                          -       -     3.0       -       -     -       -       -       -       -       -     -       -       -        -       -       -       -       -       -       -
 (reserved later)                  512       -       -       -       -     -       -       -       -       -       -     -       -       -        -       -       -       -       -       -       -)");
}

TEST(Screen, LooksLikeThisWithoutVms) {
  View view = make_view();
  view.observation = cli::Observation{};
  view.observation->now.state = "high";
  EXPECT_EQ(shown(view, {80, 24}), R"(22:13:20 up 0 s, 0 VMs; MEM overcommit avg: 0.00, 0.00, 0.00
PMEM  /MB:     -   total:      0     vmk,      - other,      -  free
VMKMEM/MB:     0 managed:      0 minfree,      0 rsvd,      0 ursvd, high state
PSHARE/MB:     0  shared:      0  common,      0 saving
SWAP  /MB:     0    curr:      0 rclmtgt,      -  r/s,      -   w/s
ZIP   /MB:     0  zipped:      0   saved
MEMCTL/MB:     0    curr:      0  target,      0  max

 NAME >       MEMSZ   GRANT    CNSM   SZTGT    TCHD %ACTV  MCTLSZ   SWCUR
>(ballastd)       -       -       0       -       -     -       -       -
No VM is running. Start one: ballast run --name NAME --memory SIZE -- ...)");
}

TEST(Screen, TellsWhyBelowAVm) {
  View view = make_view();
  view.settings.only_vms = true;
  view.selected = "web1";
  view.expanded = {"web1"};
  Event event;
  event.unix_ms = 1'700'000'000'000;
  event.severity = "info";
  event.vm = "web1";
  event.kind = "vm.target";
  event.message = "target from 200 MB to 128 MB";
  view.events["web1"] = {event};
  EXPECT_EQ(shown(view, {80, 50}),
            R"(22:13:20 up 2 h 10 min, 3 VMs; MEM overcommit avg: 0.54, 0.50, 12.34
PMEM  /MB:  4096   total:    9.0     vmk,   2587 other,   1500  free
VMKMEM/MB:  1024 managed:     64 minfree,    512 rsvd,    512 ursvd, soft state
PSHARE/MB:    30  shared:      0  common,     30 saving
SWAP  /MB:   384    curr:    399 rclmtgt,   0.39  r/s,   0.00   w/s
ZIP   /MB:   192  zipped:     96   saved
MEMCTL/MB:   192    curr:    384  target,    768  max
web1 waits for memory, db has lost a page
 NAME >             MEMSZ   GRANT    CNSM   SZTGT    TCHD %ACTV  MCTLSZ   SWCUR
 build-f..el-team     256     112     119     128      64     6      32      64
 db                  1024     420     478     512     256     6     128     256
>web1                 256     112     119     128      64     6      32      64
    web1 consumes 119 MB; its target is 128 MB, of 256 MB configured.
    Its shares decide that: 17 % of all shares buy it so much of the 860 MB that
    are divided among the VMs; it could use 192 MB.
    It may grow by 8.6 MB before it reaches its target.
      shares        2560 (normal: 10 for each MB of its memory), 17 % of all
                    15360
      active        64 MB +- 8 MB (slow 32 MB, fast 64 MB, now 16 MB), from 42
                    periods
      tax           75 %, variable: an idle page costs up to 4.0 times what an
                    active one costs, the more, the more of the VM is idle; 46 %
                    of what it has is idle
      wants         192 MB: what it uses and some to grow
      min           64 MB: it is never left with less
      limit         none: it may have all of its memory
      host          state soft for 3 min 5 s (memory is being taken back
                    gently): 124 MB free of 1 GB; soft below 41 MB, hard below
                    20 MB, low below 10 MB
      sharing       nothing yet: it is in salt group web, alone
      scan          0 pages/s; 0 pages scanned, 0 joined a shared frame, 0
                    written since (breaks), 0 known by their content (hints)
      balloon       32 MB of at most 128 MB, asked for 64 MB; inflating: the
                    guest is giving memory up
      guest says    224 MB in all, 16 MB available
      compressed    32 MB in 16 MB of cache; last at 2023-11-14 22:13:20
      swapped       64 MB; none since the daemon began to serve it
      returned      34567 pages decompressed and 4567 read for faults, 321 read
                    before they were missed
      blocked       no
    Its last events
    2023-11-14 22:13:20  info     web1: target from 200 MB to 128 MB (vm.target))");
}

TEST(Screen, ColoursSayWhatIsWrong) {
  View view = make_view();
  view.observation->now.vms[0].blocked = true;
  view.selected = "build-farm-of-the-kernel-team";
  const std::string screen = shown(view, {80, 24}, true);
  EXPECT_NE(screen.find("\x1b[33msoft\x1b[0m state"), std::string::npos);
  EXPECT_NE(screen.find("\x1b[31mdb "), std::string::npos);   // paused
  EXPECT_NE(screen.find("\x1b[33mweb1"), std::string::npos);  // blocked
  EXPECT_NE(screen.find("\x1b[7m>build-f"), std::string::npos);
  view.observation->now.state = "low";
  EXPECT_NE(shown(view, {80, 24}, true).find("\x1b[31mlow\x1b[0m state"), std::string::npos);
  view.observation->now.state = "high";
  EXPECT_NE(shown(view, {80, 24}, true).find("\x1b[32mhigh\x1b[0m state"), std::string::npos);
}

TEST(Screen, EveryLineEndsItsColours) {
  View view = make_view();
  view.expanded = {"db", "web1"};
  std::istringstream lines(shown(view, {80, 60}, true));
  for (std::string line; std::getline(lines, line);) {
    const size_t last = line.rfind("\x1b[");
    if (last != std::string::npos) {
      EXPECT_EQ(line.substr(last, 4), "\x1b[0m") << line;
    }
  }
}

TEST(Screen, FitsEveryTerminal) {
  View view = make_view();
  HostReport& host = view.observation->now;
  host.vms.clear();
  for (int i = 0; i < 200; ++i) host.vms.push_back(cli::make_vm(fmt::format("vm{:03}", i), 256));
  host.vms[0].spec.name = std::string(64, 'n');
  host.vms[1].spec.name =
      "gr\xc3\xbc\xc3\x9f"
      "e";
  host.vms[2].spec.name = "\x1b[2J\xff\n";
  host.vms[3].state = "paused";
  host.vms[3].pause_reason = "\x1b[31mpage\n lost";
  host.vms[3].lost_pages = 1;
  host.state = "\x1b[31m";
  view.expanded = {host.vms[0].spec.name, host.vms[3].spec.name};
  view.selected = host.vms[3].spec.name;
  for (const Page page : {Page::kVms, Page::kFields, Page::kHelp}) {
    view.page = page;
    for (const Size size : {Size{80, 24}, Size{200, 60}, Size{40, 10}, Size{20, 5}, Size{1, 1},
                            Size{300, 300}, Size{5, 3}}) {
      expect_fits(shown(view, size), size);
    }
  }
}

TEST(Screen, ManyVmsAreScrolled) {
  View view = make_view();
  view.observation->now.vms.clear();
  for (int i = 0; i < 200; ++i) {
    view.observation->now.vms.push_back(cli::make_vm(fmt::format("vm{:03}", i), 256));
  }
  view.selected = "vm150";
  const std::string screen = shown(view, {80, 24});
  EXPECT_NE(screen.find("\n>vm150"), std::string::npos);
  EXPECT_EQ(screen.find("vm000"), std::string::npos);
  EXPECT_NE(screen.find(" 200 VMs"), std::string::npos);
}

TEST(Screen, TheDaemonIsWaitedFor) {
  View view;
  view.waiting = "no ballastd answers at /run/ballast/control.sock";
  EXPECT_NE(shown(view, {80, 24}).find("waiting for ballastd: no ballastd answers"),
            std::string::npos);
  View seen = make_view();
  seen.waiting = view.waiting;
  const std::string screen = shown(seen, {80, 24});
  EXPECT_NE(screen.find("waiting for ballastd"), std::string::npos);
  EXPECT_NE(screen.find("web1"), std::string::npos);  // the last numbers stay
}

TEST(Screen, LooksLikeThisWhileFieldsAreChosen) {
  View view = make_view();
  view.page = Page::kFields;
  view.settings.fields = {"MEMSZ", "SWCUR"};
  view.settings.sort = "SWCUR";
  view.field = "SWCUR";
  EXPECT_EQ(shown(view, {80, 12}), R"(Columns
space: show or not; left, right: earlier, later; s: sort by it; r: the other way
Enter: back to the VMs; W: keep this for the next start

  * MEMSZ     configured memory
> * SWCUR     swapped by Ballast (sorted)
    GRANT     guest memory that is mapped to machine memory
    CNSM      machine memory it costs now
    SZTGT     machine memory it should cost (target)
    TCHD      guest memory touched lately, estimated
    %ACTV     active now, of its size
    %ACTVS    active, slow average)");
}

}  // namespace
}  // namespace ballast::top
