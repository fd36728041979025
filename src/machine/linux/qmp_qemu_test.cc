// The balloon over the monitor of a real QEMU, which never runs a guest.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "machine/linux/clock.h"
#include "machine/linux/qmp_balloon.h"

namespace ballast::linux_machine {
namespace {

using Link = machine::BalloonView::Link;

constexpr uint64_t kRam = 64ull << 20;
constexpr Nanoseconds kPatience = 60 * kSecond;  // of the test, on a busy machine

class Qemu {
 public:
  explicit Qemu(const std::string& device) {
    char name[] = "/tmp/ballast-qemu-XXXXXX";
    directory_ = mkdtemp(name);
    const std::string monitor = "unix:" + path() + ",server=on,wait=off";
    const std::string other = "unix:" + other_path() + ",server=on,wait=off";
    pid_ = fork();
    if (pid_ != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execlp("qemu-system-x86_64", "qemu-system-x86_64", "-nodefaults", "-display", "none",
           "-machine", "pc", "-accel", "tcg", "-m", "64", "-S", "-qmp", other.c_str(), "-qmp",
           monitor.c_str(), "-device", device.c_str(), static_cast<char*>(nullptr));
    _exit(kNotThere);
  }
  Qemu(const Qemu&) = delete;
  Qemu& operator=(const Qemu&) = delete;
  ~Qemu() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    std::filesystem::remove_all(directory_);
  }
  std::string path() const { return directory_ + "/monitor"; }
  std::string other_path() const { return directory_ + "/users"; }
  pid_t pid() const { return pid_; }
  // Until its monitor listens. False: there is no QEMU on this machine.
  bool wait() {
    const Nanoseconds end = MonotonicClock().now() + kPatience;
    while (!std::filesystem::exists(path()) && MonotonicClock().now() < end) {
      int status = 0;
      if (waitpid(pid_, &status, WNOHANG) == pid_) {
        pid_ = -1;
        if (WIFEXITED(status) && WEXITSTATUS(status) == kNotThere) return false;
        ADD_FAILURE() << "QEMU ended with status " << status;
        return true;
      }
      usleep(1000);
    }
    return true;
  }

 private:
  static constexpr int kNotThere = 127;
  std::string directory_;
  pid_t pid_ = -1;
};

// Runs the loop of a client or a balloon until `done`.
template <typename Client, typename Condition>
bool run(Client& balloon, const Condition& done) {
  const MonotonicClock clock;
  const Nanoseconds end = clock.now() + kPatience;
  while (!done()) {
    const Nanoseconds now = clock.now();
    if (now >= end) return false;
    pollfd entry{balloon.fd(), balloon.wanted(), 0};
    const Nanoseconds wake = std::clamp(balloon.wake_at(), now, now + kSecond);
    poll(&entry, 1, static_cast<int>((wake - now) / kMillisecond + 1));
    if (entry.revents != 0) balloon.handle(clock.now());
    balloon.tick(clock.now());
  }
  return true;
}

bool run_until(QmpBalloon& balloon, Link link) {
  return run(balloon, [&] { return balloon.view().link == link; });
}

// The operator at a monitor of his own.
class Operator final : private QmpClient::Listener {
 public:
  explicit Operator(const Qemu& qemu) : client_(qemu.other_path(), qemu.pid(), *this) {}
  void execute(const std::string& command) {
    ASSERT_TRUE(run(client_, [&] { return client_.can_execute(); })) << client_.problem();
    bool done = false;
    client_.execute(command, nullptr, [&](const QmpReply& reply) {
      EXPECT_TRUE(reply.ok()) << command << ": " << reply.error;
      done = true;
    });
    ASSERT_TRUE(run(client_, [&] { return done; })) << command;
  }

 private:
  void on_ready() override {}
  void on_failure() override {}
  void on_event(const std::string&, const nlohmann::json&) override {}
  QmpClient client_;
};

#define START_OR_SKIP(qemu)                                                            \
  if (!(qemu).wait()) {                                                                \
    GTEST_SKIP() << "no qemu-system-x86_64 in PATH; install Debian's qemu-system-x86"; \
  }

TEST(QmpBalloonWithQemu, FindsTheDeviceAndSpeaksWithIt) {
  Qemu qemu("virtio-balloon-pci,id=ballast-balloon,deflate-on-oom=on");
  START_OR_SKIP(qemu);
  QmpBalloon balloon(qemu.path(), qemu.pid(), kRam);
  ASSERT_TRUE(run_until(balloon, Link::kReady)) << balloon.view().problem;
  EXPECT_EQ(balloon.view().actual_bytes, kRam);
  EXPECT_FALSE(balloon.view().vm_runs);

  // Another client is queued behind us, as QEMU serves one at a time: it gets no greeting.
  QmpBalloon second(qemu.path(), qemu.pid(), kRam);
  ASSERT_TRUE(run_until(second, Link::kUnreachable));
  EXPECT_THAT(second.view().problem, testing::HasSubstr("another client holds its monitor"));

  // No driver: statistics are never told, and the size stays whatever is asked for.
  balloon.set_stats_period(1);
  balloon.request(kRam / 2);
  const MonotonicClock clock;
  const Nanoseconds end = clock.now() + 3 * kSecond;
  run(balloon, [&] { return clock.now() > end; });
  EXPECT_EQ(balloon.view().link, Link::kReady);
  EXPECT_EQ(balloon.view().actual_bytes, kRam);
  EXPECT_FALSE(balloon.view().stats);
}

TEST(QmpBalloonWithQemu, SeesTheVmRunStopResetAndDie) {
  Qemu qemu("virtio-balloon-pci");  // a user's own, without a name
  START_OR_SKIP(qemu);
  QmpBalloon balloon(qemu.path(), qemu.pid(), kRam);
  ASSERT_TRUE(run_until(balloon, Link::kReady)) << balloon.view().problem;
  Operator user(qemu);
  user.execute("cont");
  EXPECT_TRUE(run(balloon, [&] { return balloon.view().vm_runs; }));
  user.execute("stop");
  EXPECT_TRUE(run(balloon, [&] { return !balloon.view().vm_runs; }));
  user.execute("system_reset");
  EXPECT_TRUE(run(balloon, [&] { return balloon.view().resets > 0; }));
  EXPECT_EQ(balloon.view().actual_bytes, kRam);
  user.execute("quit");
  EXPECT_TRUE(run_until(balloon, Link::kUnreachable));
}

TEST(QmpBalloonWithQemu, NoBalloon) {
  Qemu qemu("virtio-rng-pci");
  START_OR_SKIP(qemu);
  QmpBalloon balloon(qemu.path(), qemu.pid(), kRam);
  EXPECT_TRUE(run_until(balloon, Link::kNone)) << balloon.view().problem;
}

}  // namespace
}  // namespace ballast::linux_machine
