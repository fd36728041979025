#include "proto/control.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proto/report_json.h"

namespace ballast::proto {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class Control : public ::testing::Test {
 protected:
  Control() {
    service_.version = "1.2.3";
    service_.host = [this] {
      HostReport host;
      host.budget_bytes = 512u << 20;
      host.vms.resize(2);
      host.vms[0].spec = {
          .name = "web1", .configured_bytes = 256u << 20, .allocation = web1_allocation_};
      host.vms[1].spec = {.name = "web2", .configured_bytes = 128u << 20};
      return host;
    };
    service_.events = [](uint64_t since) {
      std::vector<Event> events;
      for (uint64_t i = since + 1; i <= 1000; ++i) events.push_back({.sequence = i});
      return events;
    };
    service_.last_event = [] { return uint64_t{1000}; };
    service_.resume = [this](const std::string& vm) -> Status {
      resumed_ = vm;
      if (vm == "web2") return Error{"web2 is not paused"};
      return Done{};
    };
    service_.admit = [this](const VmSpec& spec) -> Status {
      admitted_ = spec;
      return Done{};
    };
  }
  json ask(const char* text) { return answer(json::parse(text), service_); }
  std::string error_of(const char* text) {
    const json reply = ask(text);
    EXPECT_EQ(reply["ok"], false) << text;
    return reply.value("error", "");
  }

  ControlService service_;
  std::string resumed_;
  VmSpec admitted_;
  Allocation web1_allocation_ = {.min_bytes = 64u << 20};
};

TEST_F(Control, AnswersWithReports) {
  EXPECT_EQ(ask(R"({"op":"version"})")["version"], "1.2.3");
  EXPECT_EQ(ask(R"({"op":"ls"})")["vms"].size(), 2u);
  EXPECT_EQ(ask(R"({"op":"host"})")["host"]["budget_bytes"], 512u << 20);
  EXPECT_EQ(ask(R"({"op":"host"})")["host"]["vms"][1]["name"], "web2");
  EXPECT_EQ(ask(R"({"op":"show","vm":"web2"})")["vm"]["name"], "web2");
}

TEST_F(Control, EventsComeInBoundedPortions) {
  const json first = ask(R"({"op":"events"})");
  EXPECT_EQ(first["events"].size(), kEventsMax);
  EXPECT_EQ(first["events"][0]["sequence"], 1);
  EXPECT_EQ(first["last"], 1000);
  EXPECT_EQ(ask(R"({"op":"events","since":999})")["events"].size(), 1u);
  EXPECT_EQ(ask(R"({"op":"events","since":18446744073709551615})")["last"], 1000);
}

TEST_F(Control, ResumesByName) {
  EXPECT_EQ(ask(R"({"op":"resume","vm":"web1"})")["ok"], true);
  EXPECT_EQ(resumed_, "web1");
  EXPECT_EQ(error_of(R"({"op":"resume","vm":"web2"})"), "web2 is not paused");
  resumed_.clear();
  EXPECT_THAT(error_of(R"({"op":"resume","vm":"web3"})"), HasSubstr("no VM is named 'web3'"));
  EXPECT_EQ(resumed_, "");
}

TEST_F(Control, AdmitsOnlyWhatMakesSense) {
  EXPECT_EQ(ask(R"({"op":"admit","name":"db","memory_bytes":1048576,"min_bytes":4096})")["ok"],
            true);
  EXPECT_EQ(admitted_.name, "db");
  EXPECT_EQ(admitted_.configured_bytes, 1u << 20);
  EXPECT_EQ(admitted_.allocation.min_bytes, 4096u);
  admitted_ = {};
  for (const char* text :
       {R"({"op":"admit","memory_bytes":4096})", R"({"op":"admit","name":"db"})",
        R"({"op":"admit","name":"../x","memory_bytes":4096})",
        R"({"op":"admit","name":"db","memory_bytes":0})",
        R"({"op":"admit","name":"db","memory_bytes":4097})",
        R"({"op":"admit","name":"db","memory_bytes":-4096})",
        R"({"op":"admit","name":"db","memory_bytes":18446744073709547520})",
        R"({"op":"admit","name":"db","memory_bytes":4096,"min_bytes":8192})",
        R"({"op":"admit","name":"db","memory_bytes":4096,"min_bytes":1})",
        R"({"op":"admit","name":"db","memory_bytes":4096,"shares":0})",
        R"({"op":"admit","name":"db","memory_bytes":4096,"limits_bytes":4096})"}) {
    EXPECT_NE(error_of(text), "") << text;
  }
  EXPECT_EQ(admitted_.name, "");
}

TEST_F(Control, AdmissionSeesTheWholeAllocation) {
  EXPECT_EQ(ask(R"({"op":"admit","name":"db","memory_bytes":2097152,"limit_bytes":1048576,
                    "shares":"high","balloon_max_bytes":4096})")["ok"],
            true);
  EXPECT_EQ(admitted_.allocation, (Allocation{.limit_bytes = 1u << 20,
                                              .shares = {ShareLevel::kHigh, 0},
                                              .balloon_max_bytes = 4096}));
  EXPECT_EQ(error_of(R"({"op":"admit","name":"db","memory_bytes":4194304,"min_bytes":2097152,
                         "limit_bytes":1048576})"),
            "VM db: a min of 2 MB exceeds its limit of 1 MB");
}

TEST_F(Control, WrongRequestsAreExplained) {
  EXPECT_THAT(error_of("[]"), HasSubstr("one object on one line"));
  EXPECT_THAT(error_of("{}"), HasSubstr("needs \"op\""));
  EXPECT_THAT(error_of(R"({"op":7})"), HasSubstr("needs \"op\""));
  EXPECT_THAT(error_of(R"({"op":"format c:"})"), HasSubstr("unknown op 'format c:'"));
  EXPECT_THAT(error_of(R"({"op":"show"})"), HasSubstr("needs \"vm\""));
  EXPECT_THAT(error_of(R"({"op":"show","vm":{}})"), HasSubstr("needs \"vm\""));
  EXPECT_THAT(error_of(R"({"op":"events","since":-1})"), HasSubstr("\"since\""));
  EXPECT_THAT(error_of(R"({"op":"events","since":"now"})"), HasSubstr("\"since\""));
}

TEST_F(Control, WhoMayOnlyLookChangesNothing) {
  const auto look = [&](const char* text) {
    return answer(json::parse(text), service_, Access::kLook);
  };
  for (const char* text :
       {R"({"op":"version"})", R"({"op":"ls"})", R"({"op":"show","vm":"web1"})", R"({"op":"host"})",
        R"({"op":"events"})", R"({"op":"admit","name":"db","memory_bytes":1048576})"}) {
    EXPECT_EQ(look(text)["ok"], true) << text;
  }
  for (const char* text :
       {R"({"op":"set","vm":"web1","shares":"high"})", R"({"op":"resume","vm":"web1"})",
        R"({"op":"reclaim","vm":"web1","bytes":4096})", R"({"op":"unreserve","name":"db"})",
        R"({"op":"reserve","name":"db","memory_bytes":4096,"seconds":9})",
        R"({"op":"options","name":"Mem.IdleTax","value":"50"})",
        R"({"op":"options","value":null})"}) {
    EXPECT_THAT(look(text).value("error", ""), HasSubstr("may only look")) << text;
  }
  EXPECT_EQ(resumed_, "");
  EXPECT_THAT(look(R"({"op":"options"})").value("error", ""), HasSubstr("does not support"));
  EXPECT_THAT(look(R"({"op":"nonsense"})").value("error", ""), HasSubstr("unknown op"));
}

TEST_F(Control, HostileNamesComeBackShortAndHarmless) {
  const std::string name = "\x1b[2J" + std::string(5000, 'x');
  const json reply = answer({{"op", "show"}, {"vm", name}}, service_);
  const auto text = reply["error"].get<std::string>();
  EXPECT_LT(text.size(), 200u);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
}

TEST_F(Control, MissingFunctionsAreNotSupported) {
  service_ = {};
  for (const char* op : {"ls", "host", "show", "events", "resume", "reclaim", "admit", "reserve",
                         "unreserve", "set", "whatif", "options"}) {
    const json reply = answer({{"op", op}, {"vm", "a"}}, service_);
    EXPECT_THAT(reply.value("error", ""), HasSubstr("does not support")) << op;
  }
}

TEST(CheckVmName, TakesWhatFileNamesAndTablesBear) {
  for (const char* good : {"a", "web1", "Web-1.example_x", "_", "9"}) {
    EXPECT_TRUE(check_vm_name(good)) << good;
  }
  EXPECT_TRUE(check_vm_name(std::string(64, 'a')));
  EXPECT_FALSE(check_vm_name(std::string(65, 'a')));
  for (const char* bad : {"", ".", "..", "-a", ".a", "a b", "a/b", "a\n", "\xc3\xa4"}) {
    EXPECT_FALSE(check_vm_name(bad)) << bad;
  }
}

}  // namespace
}  // namespace ballast::proto
