// The operations that carry allocations and options: set, whatif, reserve, options.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/units.h"
#include "proto/control.h"
#include "proto/control_requests.h"

namespace ballast::proto {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr uint64_t kMegabyte = 1u << 20;

// A daemon with web1 (256 MB, min 64 MB) and web2 (128 MB) that does what it is told.
class ControlAllocation : public ::testing::Test {
 protected:
  ControlAllocation() {
    host_.vms.resize(2);
    host_.vms[0].spec = {.name = "web1",
                         .configured_bytes = 256 * kMegabyte,
                         .allocation = {.min_bytes = 64 * kMegabyte}};
    host_.vms[1].spec = {.name = "web2", .configured_bytes = 128 * kMegabyte};
    service_.host = [this] { return host_; };
    service_.set = [this](const std::string& vm, const VmChange& change) -> Status {
      if (vm == "web2") return Error{"no room for that min"};
      ++calls_;
      VmReport& web1 = host_.vms[0];
      web1.spec.allocation = apply(web1.spec.allocation, change.allocation);
      web1.power_on = apply(web1.power_on, change.power_on);
      return Done{};
    };
    service_.what_if = [this](const WhatIfQuestion& question) {
      ++calls_;
      question_ = question;
      return WhatIfAnswer{.rows = {{.name = "web1", .target_then_bytes = 7}},
                          .refusal = "",
                          .divided_then_bytes = 8};
    };
    service_.reserve = [this](const VmSpec& spec, uint64_t seconds) -> Status {
      ++calls_;
      reserved_ = spec;
      seconds_ = seconds;
      return Done{};
    };
    service_.unreserve = [this](const std::string& vm) -> Status {
      ++calls_;
      if (vm != reserved_.name) return Error{"nothing is reserved for " + vm};
      return Done{};
    };
    service_.options = [this] { return options_; };
    service_.set_option = [this](std::string_view name,
                                 std::string_view value) -> Result<std::string> {
      ++calls_;
      BALLAST_TRY_STATUS(set_option(options_, name, value));
      return std::string("until a restart");
    };
  }
  json ask(const char* text) { return answer(json::parse(text), service_); }
  std::string error_of(const char* text) {
    const json reply = ask(text);
    EXPECT_EQ(reply["ok"], false) << text;
    return reply.value("error", "");
  }
  const Allocation& web1() const { return host_.vms[0].spec.allocation; }

  ControlService service_;
  HostReport host_;
  Options options_;
  WhatIfQuestion question_;
  VmSpec reserved_;
  uint64_t seconds_ = 0;
  int calls_ = 0;  // of functions that change or compute something
};

TEST_F(ControlAllocation, SetChangesWhatItNamesAndShowsTheVm) {
  const json reply = ask(R"({"op":"set","vm":"web1","limit_bytes":134217728,"shares":2000})");
  EXPECT_EQ(reply["ok"], true) << reply;
  EXPECT_EQ(reply["vm"]["limit_bytes"], 128 * kMegabyte);
  EXPECT_EQ(reply["vm"]["share_setting"], "2000");
  EXPECT_EQ(web1(), (Allocation{.min_bytes = 64 * kMegabyte,
                                .limit_bytes = 128 * kMegabyte,
                                .shares = {ShareLevel::kCustom, 2000}}));
  EXPECT_EQ(ask(R"({"op":"set","vm":"web1","min_bytes":0,"limit_bytes":null,"shares":"high",
                    "balloon_max_bytes":4096})")["ok"],
            true);
  EXPECT_EQ(web1(),
            (Allocation{.shares = {ShareLevel::kHigh, 0}, .balloon_max_bytes = kPageBytes}));
  EXPECT_EQ(ask(R"({"op":"set","vm":"web1","balloon_max_bytes":null,"shares":"17"})")["ok"], true);
  EXPECT_EQ(web1(), (Allocation{.shares = {ShareLevel::kCustom, 17}}));
  EXPECT_EQ(error_of(R"({"op":"set","vm":"web2","min_bytes":4096})"), "no room for that min");
}

TEST_F(ControlAllocation, SetKeepsSaltAndSharingForTheNextPowerOn) {
  const json reply = ask(R"({"op":"set","vm":"web1","salt":"web","pshare":false,"shares":"high"})");
  EXPECT_EQ(reply["ok"], true) << reply;
  EXPECT_EQ(reply["vm"]["power_on_salt"], "web");
  EXPECT_EQ(reply["vm"]["power_on_sharing"], "off");
  EXPECT_EQ(reply["vm"]["share_setting"], "high") << "both at once";
  EXPECT_EQ(ask(R"({"op":"set","vm":"web1","salt":null})")["vm"]["power_on_salt"], "");
  EXPECT_EQ(ask(R"({"op":"set","vm":"web1","pshare":true})")["vm"]["power_on_sharing"], "on");
  EXPECT_EQ(ask(R"({"op":"set","vm":"web1","pshare":null})")["vm"]["power_on_sharing"], "default");
}

TEST_F(ControlAllocation, SetRefusesWhatCannotBeAndChangesNothing) {
  const std::vector<std::pair<const char*, const char*>> table = {
      {R"("vm":"web3","min_bytes":0)", "no VM is named 'web3'"},
      {R"("min_bytes":0)", "needs \"vm\""},
      {R"("vm":"web1")", "nothing to change: give one of min_bytes, limit_bytes, shares"},
      {R"("vm":"web1","limits_bytes":1048576)", "'limits_bytes' is not known here; known are op"},
      {R"("vm":"web1","min_bytes":0,"max\n":1)", "'max?' is not known"},
      {R"("vm":"web1","min_bytes":536870912)",
       "VM web1: a min of 512 MB exceeds its memory of 256 MB"},
      {R"("vm":"web1","limit_bytes":33554432)", "a min of 64 MB exceeds its limit of 32 MB"},
      {R"("vm":"web1","min_bytes":0,"limit_bytes":4096)", "too small to run in"},
      {R"("vm":"web1","min_bytes":1)", "whole pages of 4096 bytes"},
      {R"("vm":"web1","min_bytes":null)", "\"min_bytes\", a whole number"},
      {R"("vm":"web1","min_bytes":-4096)", "\"min_bytes\", a whole number"},
      {R"("vm":"web1","min_bytes":4096.0)", "\"min_bytes\", a whole number"},
      {R"("vm":"web1","min_bytes":"4096")", "\"min_bytes\", a whole number"},
      {R"("vm":"web1","min_bytes":18446744073709551616)", "\"min_bytes\", a whole number"},
      {R"("vm":"web1","limit_bytes":18446744073709551615)", "null for none"},
      {R"("vm":"web1","limit_bytes":"none")", "null for none"},
      {R"("vm":"web1","limit_bytes":1e9)", "null for none"},
      {R"("vm":"web1","balloon_max_bytes":-1)", "null for none"},
      {R"("vm":"web1","balloon_max_bytes":536870912)", "a balloon of up to 512 MB exceeds"},
      {R"("vm":"web1","shares":0)", "shares '0' are refused"},
      {R"("vm":"web1","shares":-5)", "shares '-5' are refused"},
      {R"("vm":"web1","shares":1.5)", "shares '1.5' are refused"},
      {R"("vm":"web1","shares":100000001)", "1 to 100000000"},
      {R"("vm":"web1","shares":"")", "shares '' are refused"},
      {R"("vm":"web1","shares":"normal ")", "shares 'normal ' are refused"},
      {R"("vm":"web1","shares":null)", "shares 'null' are refused"},
      {R"("vm":"web1","shares":{"a":1})", "are refused"},
      {R"("vm":"web1","min_bytes":4096,"shares":"lots")", "shares 'lots' are refused"},
      {R"("vm":"web1")", "balloon_max_bytes, salt, pshare"},
      {R"("vm":"web1","salt":"")", "a salt of 0 bytes is refused: 1 to 128 printable"},
      {R"("vm":"web1","salt":"two words")", "a salt of 9 bytes is refused"},
      {R"("vm":"web1","salt":"none")", "the salt 'none' is refused"},
      {R"("vm":"web1","salt":7)", "\"salt\" needs a text, or null"},
      {R"("vm":"web1","pshare":"on")", "\"pshare\" needs true, false, or null"},
      {R"("vm":"web1","min_bytes":4096,"pshare":1)", "\"pshare\" needs true, false, or null"},
      {R"("vm":"web1","min_bytes":0,"share_group":"all")", "'share_group' is not known here"},
  };
  for (const auto& [members, words] : table) {
    const std::string text = fmt::format(R"({{"op":"set",{}}})", members);
    EXPECT_THAT(error_of(text.c_str()), HasSubstr(words)) << text;
  }
  EXPECT_EQ(calls_, 0);
  EXPECT_EQ(web1(), (Allocation{.min_bytes = 64 * kMegabyte}));
}

TEST_F(ControlAllocation, WhatIfAsksAboutNewAndChangedVms) {
  const json reply = ask(R"({"op":"whatif",
      "add":[{"name":"new1","memory_bytes":1073741824,"min_bytes":4096,"shares":"high"},
             {"name":"new2","memory_bytes":1073741824,"limit_bytes":null}],
      "set":[{"vm":"web2","shares":2000},{"vm":"web1","min_bytes":0}]})");
  ASSERT_EQ(reply["ok"], true) << reply;
  EXPECT_EQ(reply["whatif"]["rows"][0]["target_then_bytes"], 7);
  EXPECT_EQ(reply["whatif"]["divided_then_bytes"], 8);
  ASSERT_EQ(question_.add.size(), 2u);
  EXPECT_EQ(question_.add[0].name, "new1");
  EXPECT_EQ(question_.add[0].configured_bytes, 1024 * kMegabyte);
  EXPECT_EQ(question_.add[0].allocation,
            (Allocation{.min_bytes = 4096, .shares = {ShareLevel::kHigh, 0}}));
  ASSERT_EQ(question_.set.size(), 2u);
  EXPECT_EQ(question_.set[0].first, "web2");
  EXPECT_EQ(question_.set[0].second, (AllocationChange{.shares = {{ShareLevel::kCustom, 2000}}}));
  EXPECT_EQ(ask(R"({"op":"whatif"})")["ok"], true);
}

TEST_F(ControlAllocation, WhatIfRefusesWhatCannotBe) {
  const std::vector<std::pair<const char*, const char*>> table = {
      {R"("add":{})", "\"add\" must be an array of objects"},
      {R"("add":[1])", "\"add\" must be an array of objects"},
      {R"("set":"web1")", "\"set\" must be an array of objects"},
      {R"("add":[{"name":"a"}])", "memory_bytes"},
      {R"("add":[{"name":"a","memory_bytes":4096,"count":3}])", "'count' is not known"},
      {R"("add":[{"name":"web1","memory_bytes":4096}])", "web1 is there already"},
      {R"("add":[{"name":"a","memory_bytes":4096},{"name":"a","memory_bytes":4096}])",
       "a is there already"},
      {R"("set":[{"vm":"web1"}])", "nothing to change"},
      {R"("set":[{"vm":"a","shares":1}])", "no VM is named 'a'"},
      {R"("set":[{"vm":"web1","op":1}])", "'op' is not known"},
      {R"("set":[{"vm":"web1","salt":"web"}])", "'salt' is not known"},
      {R"("set":[{"vm":"web1","shares":1},{"vm":"web1","min_bytes":0}])", "changed twice"},
      {R"("set":[{"vm":"web2","min_bytes":268435456}])", "VM web2: a min of 256 MB exceeds"},
  };
  for (const auto& [members, words] : table) {
    const std::string text = fmt::format(R"({{"op":"whatif",{}}})", members);
    EXPECT_THAT(error_of(text.c_str()), HasSubstr(words)) << text;
  }
  json many = {{"op", "whatif"}, {"set", json::array()}};
  for (size_t i = 0; i <= kWhatIfVmsMax; ++i) many["set"].push_back({{"vm", "web1"}});
  EXPECT_THAT(answer(many, service_)["error"].get<std::string>(), HasSubstr("at most 1000"));
  EXPECT_EQ(calls_, 0);
}

TEST_F(ControlAllocation, ReservesForATime) {
  EXPECT_EQ(ask(R"({"op":"reserve","name":"db","memory_bytes":8388608,"min_bytes":4194304,
                    "seconds":600})")["ok"],
            true);
  EXPECT_EQ(reserved_.name, "db");
  EXPECT_EQ(reserved_.configured_bytes, 8 * kMegabyte);
  EXPECT_EQ(reserved_.allocation.min_bytes, 4 * kMegabyte);
  EXPECT_EQ(seconds_, 600u);
  EXPECT_EQ(ask(R"({"op":"unreserve","name":"db"})")["ok"], true);
  EXPECT_EQ(error_of(R"({"op":"unreserve","name":"x"})"), "nothing is reserved for x");
  calls_ = 0;
  for (const char* members :
       {R"("name":"db","memory_bytes":8388608,"min_bytes":0)", R"("name":"db","seconds":600)",
        R"("name":"db","memory_bytes":8388608,"seconds":0)",
        R"("name":"db","memory_bytes":8388608,"seconds":604801)",
        R"("name":"db","memory_bytes":8388608,"seconds":"600")",
        R"("name":"db","memory_bytes":8388608,"seconds":600,"shares":"high")",
        R"("name":"db","memory_bytes":8388608,"min_bytes":16777216,"seconds":600)"}) {
    const std::string text = fmt::format(R"({{"op":"reserve",{}}})", members);
    EXPECT_NE(error_of(text.c_str()), "") << text;
  }
  EXPECT_THAT(error_of(R"({"op":"unreserve","name":"../x"})"), HasSubstr("is no name"));
  EXPECT_THAT(error_of(R"({"op":"unreserve"})"), HasSubstr("needs \"name\""));
  EXPECT_EQ(calls_, 0);
}

TEST_F(ControlAllocation, OptionsAreListedAskedAndSet) {
  options_.idle_tax_percent = 50;
  const json all = ask(R"({"op":"options"})");
  EXPECT_EQ(all["options"].size(), all_options().size());
  const json one = ask(R"({"op":"options","name":"Mem.IdleTax"})");
  ASSERT_EQ(one["options"].size(), 1u);
  EXPECT_EQ(one["options"][0]["value"], "50");
  EXPECT_EQ(one["options"][0]["default"], "75");
  EXPECT_EQ(one["options"][0]["at_once"], true);
  EXPECT_EQ(ask(R"({"op":"options","name":"Mem.MinFreePct"})")["options"][0]["name"],
            "Mem.MemMinFreePct");
  EXPECT_EQ(calls_, 0);
  const json set = ask(R"({"op":"options","name":"Mem.IdleTax","value":"0"})");
  EXPECT_EQ(set["ok"], true) << set;
  EXPECT_EQ(set["option"]["value"], "0");
  EXPECT_EQ(set["note"], "until a restart");
  EXPECT_EQ(options_.idle_tax_percent, 0u);
}

TEST_F(ControlAllocation, WrongOptionsAreExplained) {
  EXPECT_THAT(error_of(R"({"op":"options","name":"Mem.No"})"),
              HasSubstr("unknown option 'Mem.No'; known are Mem.BalancePeriod"));
  EXPECT_THAT(error_of(R"({"op":"options","name":7})"), HasSubstr("needs \"name\""));
  EXPECT_THAT(error_of(R"({"op":"options","value":"1"})"), HasSubstr("needs \"name\""));
  EXPECT_THAT(error_of(R"({"op":"options","name":"Mem.IdleTax","value":1})"),
              HasSubstr("needs \"value\", a text"));
  EXPECT_THAT(error_of(R"({"op":"options","name":"Mem.IdleTax","value":"100"})"),
              HasSubstr("from 0 to 99"));
  EXPECT_EQ(calls_, 0);
  service_.set_option = nullptr;
  EXPECT_THAT(error_of(R"({"op":"options","name":"Mem.IdleTax","value":"1"})"),
              HasSubstr("does not support"));
}

TEST(ControlRequests, WhatClientsWriteIsWhatTheDaemonReads) {
  VmSpec spec{.name = "db", .configured_bytes = 8 * kMegabyte};
  for (const Allocation& allocation : {Allocation{}, Allocation{.min_bytes = kMegabyte,
                                                     .limit_bytes = 4 * kMegabyte,
                                                     .shares = {ShareLevel::kCustom, 7},
                                                     .balloon_max_bytes = 2 * kMegabyte}}) {
    spec.allocation = allocation;
    const auto read = spec_from_json(to_json(spec), {"name", "memory_bytes"});
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(read->name, "db");
    EXPECT_EQ(read->configured_bytes, spec.configured_bytes);
    EXPECT_EQ(read->allocation, allocation);
  }
  for (const AllocationChange& change :
       {AllocationChange{.min_bytes = 0}, AllocationChange{.limit_bytes = kNoLimit},
        AllocationChange{.shares = Shares{ShareLevel::kLow, 0}},
        AllocationChange{.limit_bytes = kMegabyte, .balloon_max_bytes = kDefaultBalloonMax}}) {
    const auto read = change_from_json(to_json(change), {});
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(*read, change);
  }
  for (const PowerOnChange& power_on :
       {PowerOnChange{.salt = "web"}, PowerOnChange{.salt = "", .sharing = PageSharing::kOn},
        PowerOnChange{.sharing = PageSharing::kOff},
        PowerOnChange{.sharing = PageSharing::kAsStarted}}) {
    const VmChange change{.allocation = {.min_bytes = 4096}, .power_on = power_on};
    const auto read = vm_change_from_json(to_json(change));
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(*read, change);
  }
  HostReport host;
  host.vms.resize(1);
  host.vms[0].spec = spec;
  const WhatIfQuestion question{.add = {{.name = "new1", .configured_bytes = kMegabyte}},
                                .set = {{"db", {.min_bytes = 4096}}}};
  const auto read = question_from_json(host, to_json(question));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(to_json(*read), to_json(question));
}

}  // namespace
}  // namespace ballast::proto
