#include "top/batch.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "cli/test_reports.h"

namespace ballast::top {
namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

TEST(Batch, LooksLikeThis) {
  cli::Observation observation = cli::make_observation();
  observation.now.machine_total_bytes = uint64_t{4} << 30;
  observation.now.overcommit_1min_percent = 54;
  const auto lines = lines_of(csv_lines(observation, 1'700'000'000'123));
  EXPECT_EQ(
      csv_header(),
      "time,name,memsz_mb,grant_mb,cnsm_mb,sztgt_mb,tchd_mb,actv_percent,actvs_percent,actvf_"
      "percent,mctl,mctlsz_mb,mctltgt_mb,mctlmax_mb,swcur_mb,swtgt_mb,swr_mb_per_s,sww_mb_per_s,"
      "cachesz_mb,cacheusd_mb,zip_mb_per_s,unzip_mb_per_s,shrd_mb,zero_mb,shrdsvd_mb,ovhd_mb,amin_"
      "mb,almt_mb,ashrs,salt_group,waits_per_s,fault_p99_us,state,host_state,host_vms,host_total_"
      "mb,host_available_mb,managed_mb,consumed_mb,free_mb,minfree_mb,unreserved_mb,promised_mb,"
      "ballastd_mb,pshare_common_mb,overcommit_1min,overcommit_5min,overcommit_15min\n");
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[0],
            "1700000000.123,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,soft,3,4096.000,,1024.000,900.000,124."
            "000,64.000,512.000,1536.000,3.000,0.000,0.54,0.00,0.00");
  EXPECT_EQ(lines[3],
            "1700000000.123,web1,256.000,112.400,119.400,128.000,64.000,6.25,12.50,25.00,Y,32.000,"
            "64.000,128.000,64.000,0.000,0.391,0.000,0.000,16.000,0.000,0.000,10.000,10.000,10.000,"
            "1.000,64.000,none,2560,salt:web,2.00,850.00,running,,,,,,,,,,,,,,,");
}

TEST(Batch, EveryLineHasEveryColumn) {
  const auto commas = [](const std::string& line) {
    return std::count(line.begin(), line.end(), ',');
  };
  const auto columns = commas(csv_header());
  for (const std::string& line : lines_of(csv_lines(cli::make_observation(), 1))) {
    EXPECT_EQ(commas(line), columns) << line;
  }
  EXPECT_EQ(lines_of(csv_lines({}, 1)).size(), 1u);  // no VMs: the host's line is still there
}

TEST(Batch, TextsAreQuotedWhenNeeded) {
  cli::Observation observation;
  observation.now.vms = {cli::make_vm("a", 256)};
  observation.now.vms[0].spec.share_group = "salt:a,\"b\"";
  EXPECT_NE(csv_lines(observation, 1).find(",\"salt:a,\"\"b\"\"\","), std::string::npos);
}

TEST(Batch, WithoutADaemonItSaysSo) {
  std::ostringstream out;
  std::ostringstream err;
  EXPECT_EQ(run_batch({.run_dir = "/nowhere/at/all", .delay_seconds = 0.5, .count = 1}, out, err),
            1);
  EXPECT_EQ(out.str(), "");
  EXPECT_NE(err.str().find("no ballastd answers"), std::string::npos);
}

}  // namespace
}  // namespace ballast::top
