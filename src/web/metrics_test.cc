#include "web/metrics.h"

#include <gmock/gmock.h>

#include <map>
#include <set>
#include <sstream>

#include "web/test_host.h"

namespace ballast::web {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(Metrics, EachHasItsHelpAndTypeBeforeItsLinesAndOnlyOnce) {
  std::istringstream lines(metrics_text(make_host(3), "1.2.3"));
  std::map<std::string, int> types;
  std::set<std::string> ended;
  std::string line, open;
  while (std::getline(lines, line)) {
    if (line.starts_with("# HELP ")) continue;
    if (line.starts_with("# TYPE ")) {
      if (!open.empty()) ended.insert(open);
      open = line.substr(7, line.find(' ', 7) - 7);
      EXPECT_EQ(++types[open], 1) << open;
      EXPECT_EQ(line.ends_with(" counter"), open.ends_with("_total")) << line;
      continue;
    }
    const std::string name = line.substr(0, line.find_first_of("{ "));
    EXPECT_EQ(name, open);
    EXPECT_FALSE(ended.contains(name)) << line;
  }
  EXPECT_GT(types.size(), 50u);
}

TEST(Metrics, TellsWhatTheReportTells) {
  const std::string text = metrics_text(make_host(2), "1.2.3");
  EXPECT_THAT(text, HasSubstr("\nballast_host_budget_bytes 314572800\n"));
  EXPECT_THAT(text, HasSubstr("ballast_host_state{state=\"soft\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("ballast_host_state{state=\"high\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("ballast_host_state_age_seconds 2.5\n"));
  EXPECT_THAT(text, HasSubstr("ballast_host_vms 2\n"));
  EXPECT_THAT(text, HasSubstr("ballast_build_info{version=\"1.2.3\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("ballast_vm_faults_total{vm=\"vm1\",uuid=\"00000000-0000-4000-8000-"
                              "000000000001\"} 1001\n"));
  EXPECT_THAT(text, HasSubstr("ballast_vm_fault_p99_seconds{vm=\"vm0\",uuid=\"00000000-0000-4000-"
                              "8000-000000000000\"} 0.00085\n"));
  // Without a limit: what it may have at most.
  EXPECT_THAT(text, HasSubstr("\"} 268435456\n"));
}

TEST(Metrics, AHostWithoutVmsIsFineToo) {
  EXPECT_THAT(metrics_text(make_host(0), "1"), HasSubstr("ballast_host_vms 0\n"));
}

TEST(Metrics, ALabelCannotEndItsQuotes) {
  HostReport host = make_host(1);
  host.vms[0].spec.uuid = "a\"} 1\nevil 2\\";
  const std::string text = metrics_text(host, "1");
  EXPECT_THAT(text, HasSubstr("uuid=\"a\\\"} 1?evil 2\\\\\"}"));
  EXPECT_THAT(text, Not(HasSubstr("\nevil")));
}

}  // namespace
}  // namespace ballast::web
