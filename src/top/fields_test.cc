#include "top/fields.h"

#include <gtest/gtest.h>

#include <set>

#include "cli/test_reports.h"
#include "top/rows.h"
#include "top/settings.h"

namespace ballast::top {
namespace {

constexpr uint64_t kMb = 1 << 20;

Row row_of(const VmReport& vm, std::optional<cli::VmRates> rates = std::nullopt) {
  return {.name = vm.spec.name, .vm = &vm, .rates = std::move(rates), .known = {}};
}

std::string cell(std::string_view field, const Row& row) {
  return cell_text(*find_field(field), row);
}

TEST(Fields, HaveNamesOfTheirOwnAndAWidthForThem) {
  std::set<std::string_view> names;
  std::set<std::string_view> csv;
  for (const Field& field : all_fields()) {
    EXPECT_TRUE(names.insert(field.name).second) << field.name;
    EXPECT_TRUE(csv.insert(field.csv).second) << field.csv;
    EXPECT_GE(field.width, field.name.size()) << field.name;
    EXPECT_EQ(field.unit == Unit::kText, field.text != nullptr) << field.name;
    EXPECT_NE(field.value == nullptr, field.text == nullptr) << field.name;
  }
  for (const std::string_view name : default_fields()) EXPECT_NE(find_field(name), nullptr) << name;
}

TEST(Fields, SizesAreMegabytesThatFitTheirColumn) {
  EXPECT_EQ(megabytes(0), "0");
  EXPECT_EQ(megabytes(300.0 * 1024), "0.3");
  EXPECT_EQ(megabytes(9.94 * kMb), "9.9");
  EXPECT_EQ(megabytes(9.96 * kMb), "10");
  EXPECT_EQ(megabytes(1024.0 * kMb), "1024");
  EXPECT_EQ(megabytes(16.0 * kMb * kMb), "16384G");
}

TEST(Fields, NothingIsWiderThanItsColumn) {
  VmReport vm = cli::make_vm(std::string(64, 'n'), 16 << 20);
  vm.spec.share_group = "uuid:12345678-1234-1234-1234-123456789abc";
  vm.spec.allocation.limit_bytes = vm.spec.configured_bytes - 1;
  vm.shares = 100'000'000;
  vm.fault_p99_ns = 3'600'000'000'000;
  vm.state = "a state of a later version";
  cli::VmRates rates;
  rates.swap_ins = rates.waits = rates.zips = 1e12;
  for (const Field& field : all_fields()) {
    EXPECT_LE(cell_text(field, row_of(vm, rates)).size(), field.width) << field.name;
  }
}

TEST(Fields, WhatIsNotKnownIsADash) {
  VmReport vm = cli::make_vm("web1", 256);
  const Row row = row_of(vm);
  EXPECT_EQ(cell("SWR/s", row), "-");  // one look makes no rate
  EXPECT_EQ(cell("WAIT/s", row), "-");
  vm.samples = 0;
  EXPECT_EQ(cell("TCHD", row), "-");
  EXPECT_EQ(cell("%ACTV", row), "-");
  vm.balloon_state = "unreachable";
  EXPECT_EQ(cell("MCTL?", row), "-");
  EXPECT_EQ(cell("MCTLTGT", row), "-");
  EXPECT_EQ(cell("MCTLSZ", row), "32");  // the last one known
  vm.balloon_state = "";
  EXPECT_EQ(cell("MCTLSZ", row), "-");
  vm.fault_p99_ns = 0;
  EXPECT_EQ(cell("FLT99", row), "-");
  EXPECT_EQ(csv_text(*find_field("TCHD"), row), "");
}

TEST(Fields, TellWhatEsxtopTells) {
  VmReport vm = cli::make_vm("web1", 256);
  vm.shared_bytes = 38 * kMb;
  vm.share_part_bytes = 9 * kMb;
  vm.arena_max_bytes = 25 * kMb;
  vm.swap_target_bytes = 70 * kMb;
  cli::VmRates rates;
  rates.swap_ins = 256;
  rates.brought_back = 256;
  rates.swap_outs = 128;
  const Row row = row_of(vm, rates);
  EXPECT_EQ(cell("MEMSZ", row), "256");
  EXPECT_EQ(cell("GRANT", row), "150");  // 102 resident, 38 shared, 10 known zero
  EXPECT_EQ(cell("CNSM", row), "119");
  EXPECT_EQ(cell("SZTGT", row), "128");
  EXPECT_EQ(cell("TCHD", row), "64");
  EXPECT_EQ(cell("%ACTV", row), "6");
  EXPECT_EQ(cell("%ACTVS", row), "12");
  EXPECT_EQ(cell("%ACTVF", row), "25");
  EXPECT_EQ(cell("MCTL?", row), "Y");
  EXPECT_EQ(cell("MCTLSZ", row), "32");
  EXPECT_EQ(cell("MCTLTGT", row), "64");
  EXPECT_EQ(cell("MCTLMAX", row), "128");
  EXPECT_EQ(cell("SWCUR", row), "64");
  EXPECT_EQ(cell("SWTGT", row), "70");
  EXPECT_EQ(cell("SWR/s", row), "2.00");
  EXPECT_EQ(cell("SWW/s", row), "0.50");
  EXPECT_EQ(cell("CACHESZ", row), "25");
  EXPECT_EQ(cell("CACHEUSD", row), "16");
  EXPECT_EQ(cell("SHRD", row), "48");
  EXPECT_EQ(cell("ZERO", row), "10");
  EXPECT_EQ(cell("SHRDSVD", row), "39");
  EXPECT_EQ(cell("OVHD", row), "1.0");
  EXPECT_EQ(cell("AMIN", row), "64");
  EXPECT_EQ(cell("ALMT", row), "none");
  EXPECT_EQ(cell("ASHRS", row), "2560");
  EXPECT_EQ(cell("FLT99", row), "850");
  EXPECT_EQ(cell("STATE", row), "running");
  EXPECT_EQ(cell("SALT", row), "vm:web1");
}

TEST(Rows, VmsWithoutANumberComeLast) {
  cli::Observation observation = cli::make_observation();
  observation.now.vms[0].samples = 0;
  Settings settings;
  settings.only_vms = true;
  settings.sort = "TCHD";
  const auto names = [&] {
    std::vector<std::string> result;
    for (const Row& row : rows_of(observation, settings)) result.push_back(row.name);
    return result;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(names(), (Names{"db", "build-farm-of-the-kernel-team", "web1"}));
  settings.reverse = true;
  EXPECT_EQ(names(), (Names{"web1", "build-farm-of-the-kernel-team", "db"}));
  settings.sort = "NAME";
  settings.reverse = false;
  EXPECT_EQ(names(), (Names{"build-farm-of-the-kernel-team", "db", "web1"}));
  settings.only_vms = false;
  EXPECT_EQ(names(), (Names{"build-farm-of-the-kernel-team", "db", "web1", "(ballastd)",
                            "(reserved later)"}));
}

}  // namespace
}  // namespace ballast::top
