#include "proto/report_json.h"

#include <gtest/gtest.h>

namespace ballast::proto {
namespace {

// How many members an aggregate has: the largest number of initialisers it takes.
struct Anything {
  template <typename T>
  operator T() const;  // NOLINT(google-explicit-constructor): never defined, never called
};
template <typename Aggregate, typename... Initialisers>
constexpr size_t count_members() {
  if constexpr (requires { Aggregate{Initialisers{}..., Anything{}}; }) {
    return count_members<Aggregate, Initialisers..., Anything>();
  } else {
    return sizeof...(Initialisers);
  }
}

// Every number and text different from the default and from its neighbours.
nlohmann::json fill(nlohmann::json json) {
  uint64_t number = 1u << 20;
  for (auto& [name, value] : json.items()) {
    if (value.is_number()) value = ++number;
    if (value.is_null()) value = ++number;
    if (name == "share_setting") {
      value = "high";
    } else if (name == "power_on_sharing") {
      value = "off";
    } else if (value.is_string()) {
      value = "text of " + name;
    }
  }
  return json;
}

TEST(ReportJson, HasEveryFieldOfTheStructs) {
  // One that is added to a struct must be added to visit_fields() too.
  EXPECT_EQ(to_json(VmReport{}).size(), count_members<VmReport>() - 2 + count_members<VmSpec>() -
                                            1 + count_members<Allocation>() +
                                            count_members<PowerOn>());
  EXPECT_EQ(to_json(HostReport{}).size(), count_members<HostReport>());
  EXPECT_EQ(to_json(Event{}).size(), count_members<Event>());
  EXPECT_EQ(to_json(OptionReport{}).size(), count_members<OptionReport>());
  EXPECT_EQ(to_json(WhatIfAnswer{}).size(), count_members<WhatIfAnswer>());
  EXPECT_EQ(to_json(WhatIfAnswer{.rows = {{}}})["rows"][0].size(), count_members<WhatIfRow>());
  EXPECT_EQ(to_json(HostReport{.reservations = {{}}})["reservations"][0].size(),
            count_members<Reservation>());
  EXPECT_EQ(to_json(HostReport{.share_groups = {{}}})["share_groups"][0].size(),
            count_members<ShareGroupReport>());
}

TEST(ReportJson, SurvivesTheWayThereAndBack) {
  nlohmann::json host = fill(to_json(HostReport{}));
  host["vms"] = {fill(to_json(VmReport{})), to_json(VmReport{})};
  host["reservations"] = {
      {{"vm", "db"}, {"configured_bytes", 1u}, {"min_bytes", 2u}, {"left_ns", 3u}}};
  host["share_groups"] = {fill(to_json(HostReport{.share_groups = {{}}})["share_groups"][0])};
  const auto read = host_report_from_json(host);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(to_json(*read), host);
  EXPECT_EQ(read->vms[0].spec.name, "text of name");
  const nlohmann::json event = fill(to_json(Event{}));
  EXPECT_EQ(to_json(*event_from_json(event)), event);
  const nlohmann::json option = fill(to_json(OptionReport{}));
  EXPECT_EQ(to_json(*option_from_json(option)), option);
  nlohmann::json answer = fill(to_json(WhatIfAnswer{.rows = {{}, {}}}));
  answer["rows"][0] = fill(answer["rows"][0]);
  EXPECT_EQ(to_json(*what_if_from_json(answer)), answer);
}

TEST(ReportJson, BytesArePlainNumbers) {
  VmReport vm;
  vm.spec.configured_bytes = 256u << 20;
  vm.fault_p50_ns = UINT64_MAX;
  EXPECT_EQ(to_json(vm)["configured_bytes"].dump(), "268435456");
  EXPECT_EQ(to_json(vm)["fault_p50_ns"].dump(), "18446744073709551615");
}

TEST(ReportJson, IgnoresWhatItDoesNotKnowAndDefaultsWhatIsMissing) {
  const auto vm = vm_report_from_json({{"name", "web1"}, {"of_a_later_version", {1, 2}}});
  ASSERT_TRUE(vm);
  EXPECT_EQ(vm->spec.name, "web1");
  EXPECT_EQ(vm->consumed_bytes, 0u);
}

TEST(ReportJson, NamesTheMemberOfTheWrongType) {
  for (const char* text : {R"({"consumed_bytes":"many"})", R"({"consumed_bytes":-1})",
                           R"({"consumed_bytes":1.5})", R"({"consumed_bytes":null})"}) {
    const auto vm = vm_report_from_json(nlohmann::json::parse(text));
    ASSERT_FALSE(vm) << text;
    EXPECT_NE(vm.error().message.find("\"consumed_bytes\""), std::string::npos);
  }
  EXPECT_FALSE(vm_report_from_json({{"pid", 1ull << 40}}));
  EXPECT_FALSE(host_report_from_json({{"vms", {1}}}));
  EXPECT_FALSE(host_report_from_json({{"vms", "none"}}));
  EXPECT_FALSE(host_report_from_json({{"reservations", {{{"vm", 1}}}}}));
  EXPECT_FALSE(vm_report_from_json({{"share_setting", "some"}}));
  EXPECT_FALSE(vm_report_from_json({{"power_on_sharing", "some"}}));
  EXPECT_FALSE(host_report_from_json({{"share_groups", {{{"vms", "four"}}}}}));
  EXPECT_FALSE(host_report_from_json(nlohmann::json::array()));
  EXPECT_FALSE(event_from_json({{"kind", 1}}));
}

TEST(ReportJson, BytesThatAreNotUtf8DoNotThrow) {
  Event event;
  event.message = "\xff\xfe\n";
  const std::string line = to_line(to_json(event));
  EXPECT_EQ(line.find('\n'), std::string::npos);
  EXPECT_TRUE(nlohmann::json::accept(line));
}

}  // namespace
}  // namespace ballast::proto
