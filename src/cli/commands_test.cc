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
    service_.host = [] { return make_observation().now; };
    service_.events = [](uint64_t since) {
      std::vector<Event> events;
      for (uint64_t i = since + 1; i <= 1200; ++i) {
        events.push_back({i, 0, "info", "", "test", fmt::format("event {}", i)});
      }
      return events;
    };
    service_.last_event = [] { return uint64_t{1200}; };
    service_.resume = [](const std::string&) -> Status { return Error{"web1 is not paused"}; };
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
          polled, [&](const json& request) { return proto::answer(request, service_); }, 0);
    }
  }

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
