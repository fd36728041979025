#include "cli/commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "cli/test_reports.h"
#include "proto/control.h"
#include "proto/line_server.h"
#include "proto/run_dir.h"
#include "proto/test_socket.h"

namespace ballast::cli {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

// A daemon that says what make_observation() says, on a real socket.
class Commands : public ::testing::Test {
 protected:
  Commands() : server_(*proto::LineServer::listen(proto::control_socket_path(directory_.path()))) {
    service_.version = "9.9";
    service_.events = [](uint64_t since) {
      std::vector<Event> events;
      for (uint64_t i = since + 1; i <= 1200; ++i) {
        events.push_back(
            {i, 0, "info", i % 100 == 0 ? "web1" : "", "test", fmt::format("event {}", i)});
      }
      return events;
    };
    service_.last_event = [] { return uint64_t{1200}; };
    service_.resume = [](const std::string&) -> Status { return Error{"web1 is not paused"}; };
    service_.host = [this] { return host_; };
    service_.set = [this](const std::string& vm, const VmChange& change) -> Status {
      if (vm == "db") return Error{"the mins leave no room for that"};
      host_.vms[0].power_on = apply(host_.vms[0].power_on, change.power_on);
      host_.vms[0].next_share_group = "salt:" + host_.vms[0].power_on.salt;
      Allocation& allocation = host_.vms[0].spec.allocation;
      allocation = apply(allocation, change.allocation);
      host_.vms[0].shares = share_count(allocation.shares, host_.vms[0].spec.configured_bytes);
      return Done{};
    };
    service_.what_if = [](const WhatIfQuestion& question) {
      WhatIfAnswer answer;
      for (const VmSpec& spec : question.add)
        answer.rows.push_back({.name = spec.name, .is_new = true});
      for (const auto& [vm, change] : question.set) answer.rows.push_back({.name = vm});
      return answer;
    };
    service_.options = [this] { return options_; };
    service_.set_option = [this](std::string_view name,
                                 std::string_view value) -> Result<std::string> {
      BALLAST_TRY_STATUS(set_option(options_, name, value));
      return std::string("write it into ballastd.toml to keep it");
    };
    service_.reserve = [](const VmSpec& spec, uint64_t) -> Status {
      if (spec.name == "huge") return Error{"no room for huge"};
      return Done{};
    };
    service_.unreserve = [](const std::string& vm) -> Status {
      if (vm != "later") return Error{fmt::format("nothing is reserved for {}", vm)};
      return Done{};
    };
    service_.reclaim = [](const std::string&, uint64_t) -> Status { return Done{}; };
    service_.admit = [](const VmSpec& spec) -> Status {
      return Error{fmt::format("no room for {}: 512 MB budget, 480 MB in mins", spec.name)};
    };
    thread_ = std::thread([this] { serve(); });
  }
  ~Commands() override {
    stop_ = true;
    thread_.join();
  }
  int ballast(std::vector<std::string> words) {
    out_.str("");
    err_.str("");
    words.insert(words.begin(), {"--interval=0.02", "--run-dir", directory_.path()});
    const auto parsed = parse_arguments(std::move(words), out_, err_);
    if (const int* status = std::get_if<int>(&parsed)) return *status;
    return execute(std::get<Arguments>(parsed), {out_, err_, {.width = 100}});
  }

  std::ostringstream out_, err_;
  proto::TestDirectory directory_;

 private:
  void serve() {
    while (!stop_) {
      std::vector<pollfd> polled;
      server_->add_pollfds(polled);
      (void)poll(polled.data(), polled.size(), 5);
      server_->handle(
          polled,
          [&](const json& request, const proto::Peer&) { return proto::answer(request, service_); },
          0);
    }
  }

  // Touched by the serving thread alone once it runs.
  HostReport host_ = make_observation().now;
  Options options_;
  proto::ControlService service_;
  std::unique_ptr<proto::LineServer> server_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

TEST_F(Commands, TablesComeFromTheDaemon) {
  EXPECT_EQ(ballast({"ls"}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("web1"));
  EXPECT_EQ(ballast({"show", "web1"}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("web1: running"));
  EXPECT_EQ(ballast({"host"}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("state soft"));
  EXPECT_EQ(ballast({"version"}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("ballastd 9.9, process "));
}

TEST_F(Commands, JsonIsJson) {
  for (const auto& words :
       std::vector<std::vector<std::string>>{{"ls"}, {"show", "db"}, {"host"}, {"version"}}) {
    auto with_json = words;
    with_json.emplace_back("--json");
    EXPECT_EQ(ballast(with_json), 0) << words[0];
    EXPECT_TRUE(json::accept(out_.str())) << out_.str();
  }
}

TEST_F(Commands, SetPrintsWhatTheVmHasNow) {
  EXPECT_EQ(ballast({"set", "web1", "--limit", "128M", "--shares", "2000"}), 0) << err_.str();
  EXPECT_EQ(
      out_.str(),
      "web1: min 64 MB, limit 128 MB, shares 2000 (custom), balloon at most 128 MB (default)\n");
  EXPECT_EQ(ballast({"set", "web1", "--balloon-max", "32M", "--limit", "none", "--min", "0",
                     "--shares", "high"}),
            0);
  EXPECT_EQ(out_.str(), "web1: min 0 B, limit none, shares 5120 (high), balloon at most 32 MB\n");
  EXPECT_EQ(ballast({"set", "web1", "--min", "64M", "--json"}), 0);
  EXPECT_EQ(json::parse(out_.str())["min_bytes"], 64 << 20);
  EXPECT_EQ(ballast({"set", "db", "--min", "1G"}), 1);
  EXPECT_EQ(err_.str(), "ballast: the mins leave no room for that\n");
  EXPECT_EQ(ballast({"set", "web1", "--min", "512M"}), 1);
  EXPECT_THAT(err_.str(), HasSubstr("a min of 512 MB exceeds its memory of 256 MB"));
}

TEST_F(Commands, SetPrintsWhatTheNextPowerOnBrings) {
  EXPECT_EQ(ballast({"set", "web1", "--salt", "db", "--pshare", "on"}), 0) << err_.str();
  EXPECT_EQ(out_.str(),
            "web1: salt db, page sharing on; takes effect when web1 is powered on next (from salt "
            "group web to salt group db)\n");
  EXPECT_EQ(ballast({"set", "web1", "--pshare", "default", "--min", "0"}), 0) << err_.str();
  EXPECT_THAT(out_.str(), HasSubstr("web1: min 0 B, limit none"));
  EXPECT_THAT(out_.str(), HasSubstr("web1: salt db, page sharing as it is started; takes effect"));
  EXPECT_EQ(ballast({"set", "web1", "--salt", "web", "--json"}), 0) << err_.str();
  EXPECT_EQ(json::parse(out_.str())["power_on_salt"], "web");
}

TEST_F(Commands, WhatIfNamesNewVms) {
  EXPECT_EQ(ballast({"whatif", "--add", "2x1G", "--set", "web1.shares=5", "--json"}), 0)
      << err_.str();
  const json answer = json::parse(out_.str());
  ASSERT_EQ(answer["rows"].size(), 3u);
  EXPECT_EQ(answer["rows"][0]["name"], "new1");
  EXPECT_EQ(answer["rows"][1]["name"], "new2");
  EXPECT_EQ(answer["rows"][2]["name"], "web1");
  EXPECT_EQ(ballast({"whatif", "--add", "1G"}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("new1"));
  EXPECT_EQ(ballast({"whatif", "--set", "nobody.shares=5"}), 1);
  EXPECT_THAT(err_.str(), HasSubstr("no VM is named 'nobody'"));
}

TEST_F(Commands, OptionsAreListedShownAndSet) {
  EXPECT_EQ(ballast({"options"}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("Mem.IdleTax "));
  EXPECT_EQ(ballast({"options", "--json"}), 0);
  EXPECT_EQ(json::parse(out_.str()).size(), all_options().size());
  EXPECT_EQ(ballast({"options", "Mem.IdleTax=50"}), 0) << err_.str();
  EXPECT_THAT(out_.str(), HasSubstr("Mem.IdleTax = 50 (default 75)"));
  EXPECT_THAT(out_.str(), HasSubstr("write it into ballastd.toml"));
  EXPECT_EQ(ballast({"options", "Mem.IdleTax"}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("Mem.IdleTax = 50 (default 75)"));
  EXPECT_EQ(ballast({"options", "Mem.IdleTax=40", "--json"}), 0);
  EXPECT_EQ(json::parse(out_.str())["option"]["value"], "40");
  EXPECT_EQ(ballast({"options", "Mem.IdleTax="}), 1);
  EXPECT_THAT(err_.str(), HasSubstr("a whole number from 0 to 99"));
  EXPECT_EQ(ballast({"options", "Mem.No"}), 1);
  EXPECT_THAT(err_.str(), HasSubstr("unknown option 'Mem.No'"));
}

TEST_F(Commands, WhyHasTheLastEventsOfThatVm) {
  EXPECT_EQ(ballast({"why", "web1"}), 0) << err_.str();
  EXPECT_THAT(out_.str(), HasSubstr("Its shares decide that"));
  EXPECT_THAT(out_.str(), ::testing::Not(HasSubstr("event 700 ")));
  for (int i = 800; i <= 1200; i += 100) {
    EXPECT_THAT(out_.str(), HasSubstr(fmt::format("event {} ", i)));
  }
  EXPECT_EQ(ballast({"why", "web1", "--json"}), 0);
  const json why = json::parse(out_.str());
  EXPECT_EQ(why["vm"]["bound"], "shares");
  EXPECT_EQ(why["host"]["state"], "soft");
  EXPECT_EQ(why["events"].size(), 5u);
  EXPECT_NEAR(why["share_percent"].get<double>(), 100.0 / 6, 0.01);
  EXPECT_EQ(ballast({"why", "nobody"}), 1);
  EXPECT_THAT(err_.str(), HasSubstr("no VM is named 'nobody'"));
}

TEST_F(Commands, ReservationsAndReclaimSayWhatTheyDid) {
  EXPECT_EQ(ballast({"reserve", "later", "--memory", "2G", "--min", "1G", "--for", "2h"}), 0);
  EXPECT_EQ(out_.str(),
            "2 GB of memory, 1 GB of it guaranteed (min), are reserved for later for 2 h 0 min\n");
  EXPECT_EQ(ballast({"reserve", "huge", "--memory", "2G"}), 1);
  EXPECT_EQ(err_.str(), "ballast: no room for huge\n");
  EXPECT_EQ(ballast({"unreserve", "later"}), 0);
  EXPECT_EQ(ballast({"unreserve", "never"}), 1);
  EXPECT_EQ(err_.str(), "ballast: nothing is reserved for never\n");
  EXPECT_EQ(ballast({"reclaim", "web1", "64M"}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("64 MB are being taken from web1"));
  EXPECT_EQ(ballast({"reclaim", "nobody", "64M"}), 1);
}

TEST_F(Commands, EventsArriveInPortionsWithoutLoss) {
  EXPECT_EQ(ballast({"events", "--json"}), 0);
  std::istringstream lines(out_.str());
  uint64_t expected = 0;
  for (std::string line; std::getline(lines, line);) {
    EXPECT_EQ(json::parse(line)["sequence"], ++expected);
  }
  EXPECT_EQ(expected, 1200u);
}

TEST_F(Commands, ErrorsGoToStderr) {
  EXPECT_EQ(ballast({"show", "nobody"}), 1);
  EXPECT_EQ(out_.str(), "");
  EXPECT_EQ(err_.str(), "ballast: no VM is named 'nobody'; 'ballast ls' lists those there are\n");
  EXPECT_EQ(ballast({"resume", "web1"}), 1);
  EXPECT_EQ(err_.str(), "ballast: web1 is not paused\n");
  EXPECT_EQ(ballast({"--run-dir", "/nonexistent", "ls"}), 2) << "given twice";
}

}  // namespace
}  // namespace ballast::cli
