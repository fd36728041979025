// Golden texts of what tells about page sharing.
#include <gtest/gtest.h>

#include <sstream>

#include "cli/json_output.h"
#include "cli/render.h"
#include "cli/test_reports.h"

namespace ballast::cli {
namespace {

constexpr uint64_t kMegabyte = 1u << 20;

Observation sharing_observation() {
  Observation observation = make_observation();
  share_pages(observation.now);
  observation.before->vms[0].share_scanned = 65'536 - 512;
  observation.before->vms[0].share_breaks = 147;
  return observation;
}

void expect_fits(const std::string& text, size_t width = 100) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), width) << line;
}

std::string line_with(const std::string& text, const std::string& words) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.find(words) != std::string::npos) return line;
  }
  return "no line has: " + words + '\n' + text;
}

TEST(RenderSharing, LsHasWhatIsSaved) {
  const std::string text = render_ls(sharing_observation(), {});
  EXPECT_NE(line_with(text, "web1").find("29M"), std::string::npos) << text;
  EXPECT_NE(line_with(text, "db ").find("1M"), std::string::npos) << text;
  expect_fits(text);
}

TEST(RenderSharing, ShowLooksLikeThis) {
  const Observation observation = sharing_observation();
  const std::string text = render_show(observation.now.vms[0], observation, {});
  for (const char* lines :
       {"  consumed    128 MB  = 102 MB resident + 16 MB compression cache + 1 MB overhead + 9 MB "
        "shared\n",
        "  shared       38 MB  15 %  its part of the frames is 9 MB: 29 MB saved\n",
        "Page sharing: in salt group web, with 2 other VMs\n"
        "  scanned at 1024 pages/s; 5678 pages known by their content (hints)\n"
        "Activity",
        "  scanned         65536        1024  pages, for sharing\n",
        "  breaks            148         2.0  shared pages that were written\n"}) {
    EXPECT_NE(text.find(lines), std::string::npos) << lines << text;
  }
  EXPECT_NE(text.find("  untouched   9.6 MB"), std::string::npos) << text;
  expect_fits(text);
}

TEST(RenderSharing, ShowTellsWhatWaitsAndWhy) {
  Observation observation = sharing_observation();
  VmReport& vm = observation.now.vms[0];
  vm.share_note = "not scanned while the host is hard";
  vm.next_share_group = "salt:db";
  std::string text = render_show(vm, observation, {});
  EXPECT_NE(text.find("(hints)\n"
                      "  not scanned while the host is hard\n"
                      "  it will be in salt group db when it is powered on next\n"),
            std::string::npos)
      << text;
  vm.spec.share_group = "";
  vm.share_note = "";
  vm.next_share_group = "";
  text = render_show(vm, observation, {});
  EXPECT_NE(text.find("Page sharing: off: it was powered on so\nActivity"), std::string::npos)
      << text;
}

TEST(RenderSharing, WhyCountsWhatIsSaved) {
  const HostReport host = sharing_observation().now;
  const std::string text = render_why(host.vms[0], host, {}, {});
  EXPECT_NE(
      text.find(
          R"(  sharing       38 MB of its pages are shared with 2 other VMs of salt group web: its part of the
                frames is 9 MB, so 29 MB are saved
  scan          1024 pages/s; 65536 pages scanned, 9876 joined a shared frame, 148 written since
                (breaks), 5678 known by their content (hints)
)"),
      std::string::npos)
      << text;
  expect_fits(text);
}

TEST(RenderSharing, EveryKindOfGroupHasWords) {
  HostReport host = sharing_observation().now;
  VmReport& vm = host.vms[0];
  const std::vector<std::pair<const char*, const char*>> table = {
      {"all", "(it is alone in the salt group of all VMs)"},
      {"salt:db", "(it is alone in salt group db)"},
      {"uuid:1-2", "(it is alone in the salt group of its UUID)"},
      {"vm:5c1e", "shared with each other (it is alone in a salt group of its own): its part"}};
  for (const auto& [group, words] : table) {
    vm.spec.share_group = vm.next_share_group = group;
    EXPECT_NE(sharing_sentence(vm, host).find(words), std::string::npos)
        << sharing_sentence(vm, host);
    EXPECT_EQ(waiting_text(vm), "");
  }
  host.vms[1].spec.share_group = vm.spec.share_group;
  EXPECT_NE(sharing_sentence(vm, host).find("with 1 other VM of"), std::string::npos);
  vm.shared_bytes = 0;
  EXPECT_EQ(sharing_sentence(vm, host),
            "nothing yet: it is in a salt group of its own, with 1 other VM");
  vm.spec.share_group = "";
  EXPECT_EQ(sharing_sentence(vm, host), "off: it was powered on so");
  vm.next_share_group = "all";
  EXPECT_EQ(waiting_text(vm), "it will be in the salt group of all VMs when it is powered on next");
  vm.spec.share_group = "salt:web";
  vm.next_share_group = "";
  EXPECT_EQ(waiting_text(vm), "it will share no pages when it is powered on next");
}

TEST(RenderSharing, SetTellsWhatTheNextPowerOnBrings) {
  VmReport vm = sharing_observation().now.vms[0];
  vm.power_on = {"db", PageSharing::kAsStarted};
  vm.next_share_group = "salt:db";
  EXPECT_EQ(render_power_on(vm),
            "web1: salt db, page sharing as it is started; takes effect when web1 is powered on "
            "next (from salt group web to salt group db)\n");
  vm.power_on = {"", PageSharing::kOff};
  vm.next_share_group = "";
  EXPECT_EQ(render_power_on(vm),
            "web1: salt as it is started, page sharing off; takes effect when web1 is powered on "
            "next (from salt group web to no salt group)\n");
  vm.power_on = {};
  vm.next_share_group = vm.spec.share_group;
  EXPECT_EQ(render_power_on(vm),
            "web1: salt and page sharing as it is started; takes effect when web1 is powered on "
            "next (it stays in salt group web)\n");
}

TEST(RenderSharing, HostListsTheGroups) {
  HostReport host = sharing_observation().now;
  EXPECT_EQ(render_share_groups(host, {}),
            R"(Page sharing saves 32 MB; its tables take 1 MB
  GROUP                                      VMS  COMMON  SHARED  SAVING  HINTS
  salt:web                                     3     10M     40M     30M  17034
  uuid:12345678-1234-1234-1234-123456789abc    1      1M      3M      2M   4096
  1 VM is alone in a salt group and shares nothing yet
)");
  std::string text = render_host(host, {});
  EXPECT_NE(text.find("  shared       40 MB   3 %  on 10 MB of frames\n"), std::string::npos)
      << text;
  EXPECT_NE(text.find("Page sharing saves 32 MB"), std::string::npos);
  host.share_groups[0].name = "salt:" + std::string(128, 's');
  expect_fits(render_host(host, {}));
  host.share_groups = {{"vm:1", 1, 0, 0, 0}, {"vm:2", 1, 0, 0, 0}, {"salt:left", 0, 0, 0, 0}};
  EXPECT_EQ(render_share_groups(host, {}),
            "Page sharing saves 0 B; its tables take 1 MB\n"
            "  2 VMs are each alone in a salt group and share nothing yet\n");
  host.share_groups.clear();
  EXPECT_EQ(render_share_groups(host, {}), "");
}

TEST(RenderSharing, JsonHasSavings) {
  const nlohmann::json host = host_to_json(sharing_observation());
  EXPECT_EQ(host["vms"][0]["share_saving_bytes"], 29 * kMegabyte);
  EXPECT_EQ(host["vms"][0]["share_group"], "salt:web");
  EXPECT_EQ(host["vms"][0]["share_scanned_per_s"], 1024.0);
  EXPECT_EQ(host["share_groups"][0]["saving_bytes"], 30 * kMegabyte);
  EXPECT_EQ(host["share_groups"][0]["common_bytes"], 10 * kMegabyte);
}

TEST(RenderSharing, CountsThatContradictEachOtherSaveNothing) {
  VmReport vm;
  vm.shared_bytes = 4096;
  vm.share_part_bytes = 8192;
  EXPECT_EQ(saving_bytes(vm), 0u);
  EXPECT_EQ(saving_bytes(ShareGroupReport{.common_bytes = 8192, .shared_bytes = 4096}), 0u);
}

}  // namespace
}  // namespace ballast::cli
