#include "proto/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "proto/control.h"
#include "proto/line_server.h"
#include "proto/run_dir.h"
#include "proto/test_socket.h"

namespace ballast::proto {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using ::testing::HasSubstr;

// A daemon's loop in a thread.
class Daemon {
 public:
  Daemon(const std::string& run_dir, LineServer::Handler handler)
      : server_(*LineServer::listen(control_socket_path(run_dir))),
        thread_([this, handler = std::move(handler)] { run(handler); }) {}
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;
  ~Daemon() {
    stop_ = true;
    thread_.join();
  }

 private:
  void run(const LineServer::Handler& handler) {
    while (!stop_) {
      std::vector<pollfd> polled;
      server_->add_pollfds(polled);
      (void)poll(polled.data(), polled.size(), 5);
      server_->handle(polled, handler, 0);
    }
  }

  std::unique_ptr<LineServer> server_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

class Client : public ::testing::Test {
 protected:
  std::string error_of(std::chrono::milliseconds timeout = 5s) {
    const auto reply = call(directory_.path(), {{"op", "ls"}}, timeout);
    EXPECT_FALSE(reply);
    return reply ? "" : reply.error().message;
  }
  TestDirectory directory_;
};

TEST_F(Client, GetsTheAnswer) {
  const Daemon daemon(directory_.path(), [](const json& request, const Peer&) {
    return json{{"ok", true}, {"asked", request["op"]}, {"big", std::string(3u << 20, 'x')}};
  });
  const auto reply = call(directory_.path(), {{"op", "ls"}});
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ((*reply)["asked"], "ls");
  EXPECT_EQ((*reply)["big"].get_ref<const std::string&>().size(), 3u << 20);
}

TEST_F(Client, PassesTheDaemonsErrorOn) {
  const Daemon daemon(directory_.path(),
                      [](const json&, const Peer&) { return error_answer("no such VM"); });
  const auto reply = call(directory_.path(), {{"op", "show"}});
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().message, "no such VM");
  EXPECT_EQ(reply.error().system_error, 0);
}

TEST_F(Client, SaysThatNobodyAnswersAndWhatToDo) {
  const std::string text = error_of();
  EXPECT_EQ(text, fmt::format("no ballastd answers at {0}/control.sock: is it running? Start it "
                              "with 'ballastd --run-dir {0}', or name its directory with --run-dir",
                              directory_.path()));
  {
    // A stale socket is the same to the operator.
    auto server = *LineServer::listen(control_socket_path(directory_.path()));
    rename(server->path().c_str(), (directory_.path() + "/kept").c_str());
  }
  rename((directory_.path() + "/kept").c_str(), control_socket_path(directory_.path()).c_str());
  EXPECT_EQ(error_of(), text);
}

TEST_F(Client, GivesUpOnASilentDaemon) {
  const auto server = *LineServer::listen(control_socket_path(directory_.path()));
  const auto began = std::chrono::steady_clock::now();
  EXPECT_THAT(error_of(100ms), HasSubstr("does not answer in time"));
  EXPECT_LT(std::chrono::steady_clock::now() - began, 3s);
}

TEST_F(Client, IsNotFooledByOthers) {
  const Daemon daemon(directory_.path(), [](const json&, const Peer&) { return json("hello"); });
  EXPECT_THAT(error_of(), HasSubstr("is no ballastd"));
}

TEST(RunDir, ComesFromTheEnvironment) {
  ASSERT_EQ(unsetenv(kRunDirVariable), 0);
  EXPECT_EQ(default_run_dir(), "/run/ballast");
  ASSERT_EQ(setenv(kRunDirVariable, "", 1), 0);
  EXPECT_EQ(default_run_dir(), "/run/ballast");
  ASSERT_EQ(setenv(kRunDirVariable, "/tmp/b", 1), 0);
  EXPECT_EQ(default_run_dir(), "/tmp/b");
  ASSERT_EQ(unsetenv(kRunDirVariable), 0);
}

}  // namespace
}  // namespace ballast::proto
