#include "daemon/members.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace ballast::daemon {
namespace {

constexpr uint64_t kHeld = 4 << 20;

// A process that holds 4 MiB in a memfd, as a VM whose daemon died.
class MembersTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = testing::TempDir() + "members_test";
    std::filesystem::create_directories(directory_);
    std::filesystem::remove(directory_ + "/members");
    int ready[2];
    ASSERT_EQ(pipe(ready), 0);
    child_ = fork();
    if (child_ == 0) {
      const int file = memfd_create("ram", 0);
      const bool held = ftruncate(file, 64 << 20) == 0 && posix_fallocate(file, 0, kHeld) == 0;
      if (write(ready[1], &held, 1) == 1) pause();
      _exit(0);
    }
    char held = 0;
    ASSERT_EQ(read(ready[0], &held, 1), 1);
    ASSERT_EQ(held, 1);
    close(ready[0]);
    close(ready[1]);
  }
  void TearDown() override { end_child(); }
  void end_child() {
    if (child_ > 0) {
      kill(child_, SIGKILL);
      waitpid(child_, nullptr, 0);
    }
    child_ = 0;
  }

  std::string directory_;
  pid_t child_ = 0;
  engine::Ledger ledger_{64 << 20};
};

TEST_F(MembersTest, AVmThatIsNotBackYetStaysCharged) {
  {
    engine::Ledger before(64 << 20);
    Members members(directory_, before);
    members.add("vm1", child_, 1000);
  }
  Members members(directory_, ledger_);
  members.expect_the_last_daemons();
  EXPECT_EQ(ledger_.consumed(), kHeld + 1000);

  members.returned("vm1", child_);
  EXPECT_EQ(ledger_.consumed(), kHeld + 1000) << "nobody else may take it in between";
  ledger_.charge_existing(kHeld - 4096);  // what the take-over finds
  EXPECT_EQ(ledger_.consumed(), kHeld + 1000);
  members.took_over();
  EXPECT_EQ(ledger_.consumed(), kHeld - 4096);
}

TEST_F(MembersTest, TheDeadAreNotWaitedFor) {
  {
    engine::Ledger before(64 << 20);
    Members(directory_, before).add("vm1", child_, 0);
  }
  Members members(directory_, ledger_);
  members.expect_the_last_daemons();
  EXPECT_EQ(members.absent(), 1u);
  end_child();
  members.bury_the_dead();
  EXPECT_EQ(members.absent(), 0u);
  EXPECT_EQ(ledger_.consumed(), 0u);

  engine::Ledger next(64 << 20);
  Members later(directory_, next);
  later.expect_the_last_daemons();
  EXPECT_EQ(next.consumed(), 0u);
}

TEST_F(MembersTest, GarbageAndRecycledProcessNumbersAreSkipped) {
  std::ofstream(directory_ + "/members") << "not a line\n"
                                         << child_ << " 1 0 recycled\n-5 7 0 x\n"
                                         << child_ << "\n";
  Members members(directory_, ledger_);
  members.expect_the_last_daemons();
  EXPECT_EQ(ledger_.consumed(), 0u);
}

TEST_F(MembersTest, AFailedTakeOverStaysCharged) {
  {
    engine::Ledger before(64 << 20);
    Members(directory_, before).add("vm1", child_, 0);
  }
  Members members(directory_, ledger_);
  members.expect_the_last_daemons();
  members.returned("vm1", child_);
  members.failed_to_take_over("vm1", child_);
  EXPECT_EQ(ledger_.consumed(), kHeld);
}

}  // namespace
}  // namespace ballast::daemon
