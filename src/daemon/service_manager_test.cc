#include "daemon/service_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace ballast::daemon {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;

// Takes systemd's place at the other end of $NOTIFY_SOCKET.
class Service : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "notify." + std::to_string(getpid());
    unlink(path_.c_str());
    socket_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path_.c_str(), sizeof(address.sun_path) - 1);
    ASSERT_EQ(bind(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    setenv("NOTIFY_SOCKET", path_.c_str(), 1);
    setenv("WATCHDOG_USEC", "8000000", 1);
    setenv("WATCHDOG_PID", std::to_string(getpid()).c_str(), 1);
  }
  void TearDown() override {
    for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}) unsetenv(name);
    close(socket_);
    unlink(path_.c_str());
  }
  std::vector<std::string> heard() const {
    std::vector<std::string> messages;
    char buffer[4096];
    for (ssize_t got = 0; (got = recv(socket_, buffer, sizeof(buffer), 0)) > 0;) {
      messages.emplace_back(buffer, static_cast<size_t>(got));
    }
    return messages;
  }

 private:
  std::string path_;
  int socket_ = -1;
};

TEST_F(Service, TellsWhatItDoes) {
  ServiceManager manager;
  manager.ready();
  EXPECT_THAT(heard(), ElementsAre("READY=1"));
  manager.reloading();
  EXPECT_THAT(heard(), ElementsAre(MatchesRegex("RELOADING=1\nMONOTONIC_USEC=[0-9]+")));
  manager.stopping();
  EXPECT_THAT(heard(), ElementsAre("STOPPING=1"));
}

TEST_F(Service, TellsItsStatusOnlyWhenItChanges) {
  ServiceManager manager;
  manager.status("2 VMs");
  manager.status("2 VMs");
  manager.status("3 VMs");
  EXPECT_THAT(heard(), ElementsAre("STATUS=2 VMs", "STATUS=3 VMs"));
}

TEST_F(Service, IsAliveFourTimesInTheWatchdogsPatience) {
  ServiceManager manager;
  EXPECT_EQ(manager.wake_at(), 0u) << "at once";
  manager.alive(10 * kSecond);
  EXPECT_EQ(manager.wake_at(), 12 * kSecond);
  manager.alive(11 * kSecond);
  EXPECT_THAT(heard(), ElementsAre("WATCHDOG=1"));
  manager.alive(12 * kSecond);
  EXPECT_THAT(heard(), ElementsAre("WATCHDOG=1"));
}

TEST_F(Service, AWatchdogForAnotherProcessIsNotFed) {
  setenv("WATCHDOG_PID", "1", 1);
  ServiceManager manager;
  manager.alive(10 * kSecond);
  EXPECT_EQ(manager.wake_at(), UINT64_MAX);
  EXPECT_THAT(heard(), IsEmpty());
}

TEST_F(Service, WithoutSystemdItIsSilent) {
  unsetenv("NOTIFY_SOCKET");
  unsetenv("WATCHDOG_USEC");
  ServiceManager manager;
  manager.ready();
  manager.status("2 VMs");
  manager.alive(kSecond);
  EXPECT_EQ(manager.wake_at(), UINT64_MAX);
  EXPECT_THAT(heard(), IsEmpty());
}

}  // namespace
}  // namespace ballast::daemon
