#include "daemon/vcpu_hold.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

namespace ballast::daemon {
namespace {

// A process that sleeps, as a vCPU in its fault.
class VcpuHoldTest : public testing::Test {
 protected:
  void SetUp() override {
    if (CPU_COUNT(&mask_of(0)) < 2) GTEST_SKIP() << "one CPU only: nothing to hold";
    path_ = testing::TempDir() + "vcpu_hold_test";
    unlink(path_.c_str());
    child_ = fork();
    if (child_ == 0) {
      pause();
      _exit(0);
    }
    before_ = mask_of(child_);
  }
  void TearDown() override {
    if (child_ > 0) {
      kill(child_, SIGKILL);
      waitpid(child_, nullptr, 0);
    }
  }
  static cpu_set_t& mask_of(pid_t thread) {
    static cpu_set_t mask;
    CPU_ZERO(&mask);
    EXPECT_EQ(sched_getaffinity(thread, sizeof(mask), &mask), 0);
    return mask;
  }
  bool is_free() { return CPU_EQUAL(&mask_of(child_), &before_); }
  int a_cpu() {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(static_cast<size_t>(cpu), &before_)) return cpu;
    }
    return 0;
  }

  std::string path_;
  pid_t child_ = 0;
  cpu_set_t before_{};
};

TEST_F(VcpuHoldTest, HoldsAndGivesBack) {
  auto hold = VcpuHold::open(path_, child_);
  ASSERT_TRUE(hold) << hold.error().message;
  hold->hold(child_, a_cpu());
  EXPECT_EQ(hold->held(), child_);
  EXPECT_EQ(CPU_COUNT(&mask_of(child_)), 1);
  hold->release();
  EXPECT_EQ(hold->held(), 0);
  EXPECT_TRUE(is_free());
}

TEST_F(VcpuHoldTest, TheNextDaemonGivesBackWhatADeadOneHeld) {
  const pid_t daemon = fork();
  if (daemon == 0) {
    auto hold = VcpuHold::open(path_, getppid());
    hold->hold(child_, a_cpu());
    kill(getpid(), SIGKILL);
  }
  waitpid(daemon, nullptr, 0);
  ASSERT_FALSE(is_free());
  const auto next = VcpuHold::open(path_, child_);
  ASSERT_TRUE(next);
  EXPECT_EQ(next->held(), 0);
  EXPECT_TRUE(is_free());
}

TEST_F(VcpuHoldTest, AnOperatorsPinIsLeftAlone) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<size_t>(a_cpu()), &one);
  ASSERT_EQ(sched_setaffinity(child_, sizeof(one), &one), 0);
  auto hold = VcpuHold::open(path_, child_);
  ASSERT_TRUE(hold);
  hold->hold(child_, a_cpu());
  EXPECT_EQ(hold->held(), 0);
}

TEST_F(VcpuHoldTest, AThreadThatEndedIsNoTrouble) {
  auto hold = VcpuHold::open(path_, child_);
  ASSERT_TRUE(hold);
  hold->hold(child_, a_cpu());
  TearDown();
  child_ = 0;
  hold->release();
  EXPECT_EQ(hold->held(), 0);
}

}  // namespace
}  // namespace ballast::daemon
