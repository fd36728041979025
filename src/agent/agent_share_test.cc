// Pages that go away to a share pool and come home, request by request.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <memory>

#include "agent/agent_test_parts.h"

namespace ballast::agent_test {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kPages = 1024;

class AgentShareTest : public testing::Test {
 protected:
  void SetUp() override {
    const long fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) GTEST_SKIP() << "no userfaultfd here: " << strerror(errno);
    close(static_cast<int>(fd));
    // The daemon's own descriptor may write; the agent's may not.
    pool_ = memfd_create("ballast-pool-test", MFD_CLOEXEC);
    ASSERT_EQ(ftruncate(pool_, 256 * kPage), 0);
    toucher_ = std::make_unique<Toucher>(daemon_.environment("vm", kPages * kPage));
    toucher_->send("map 0 1024");
    daemon_.accept_agent();
    hand_off_ = daemon_.read_hand_off();
    const int other = memfd_create("other", MFD_CLOEXEC);
    const int read_only =
        open(("/proc/self/fd/" + std::to_string(pool_)).c_str(), O_RDONLY | O_CLOEXEC);
    daemon_.send_accept({other, other, other, read_only});
    close(other);
    close(read_only);
    ASSERT_EQ(toucher_->reply().substr(0, 3), "ok ");
    base_ = hand_off_.base(0);
    discards_ = std::make_unique<DiscardMap>(hand_off_.fds[2], kPages);
  }
  void TearDown() override { close(pool_); }

  std::string ask(const std::string& command) {
    toucher_->send(command);
    return toucher_->reply();
  }
  std::string read(uint64_t page) { return ask("read 0 " + std::to_string(page)); }
  uint64_t address(uint64_t page) const { return base_ + page * kPage; }
  void fill_frame(uint64_t frame, const std::string& text) const {
    ASSERT_EQ(pwrite(pool_, text.c_str(), text.size() + 1, static_cast<off_t>(frame * kPage)),
              static_cast<ssize_t>(text.size() + 1));
  }
  // Pages hold "frame N", sealed; so do the frames. The own frames are freed afterwards.
  void share(uint64_t first, uint64_t count, uint64_t frame) {
    for (uint64_t i = 0; i < count; ++i) {
      const std::string text = "frame " + std::to_string(frame + i);
      fill_frame(frame + i, text);
      if (in_ram_file(first + i).empty()) hand_off_.install(address(first + i), text);
      hand_off_.protect(address(first + i), true);
    }
    ASSERT_EQ(daemon_.share({{address(first), count * kPage, frame * kPage}}),
              (std::vector<uint32_t>{0}));
    free_own(first, count);
  }
  void free_own(uint64_t first, uint64_t count) const {
    ASSERT_EQ(fallocate(hand_off_.fds[1], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                        static_cast<off_t>(first * kPage), static_cast<off_t>(count * kPage)),
              0);
  }
  // The start of the page's own frame; empty without one.
  std::string in_ram_file(uint64_t page) const {
    const auto at = static_cast<off_t>(page * kPage);
    if (lseek(hand_off_.fds[1], at, SEEK_DATA) != at) return "";
    char text[64] = {};
    EXPECT_EQ(pread(hand_off_.fds[1], text, sizeof(text) - 1, at), 63);
    return text;
  }
  // A write to a shared page: one event, and the daemon lets it pass.
  void write_away(uint64_t page, const std::string& text) {
    toucher_->send("write 0 " + std::to_string(page) + " " + text);
    const Fault fault = hand_off_.next_fault();
    EXPECT_EQ(fault.address, address(page));
    EXPECT_TRUE(fault.sealed);
    hand_off_.protect(address(page), false);
    EXPECT_EQ(toucher_->reply(), "ok");
  }
  std::vector<uint32_t> home(uint64_t first, uint64_t count) {
    return daemon_.home({{address(first), count * kPage}});
  }

  int pool_ = -1;
  uint64_t base_ = 0;
  FakeDaemon daemon_;
  std::unique_ptr<Toucher> toucher_;
  HandOff hand_off_;
  std::unique_ptr<DiscardMap> discards_;
};

using Results = std::vector<uint32_t>;

TEST_F(AgentShareTest, SharedPagesReadTheFrameAndBreakByTheKernelsCopy) {
  share(10, 3, 50);
  EXPECT_EQ(in_ram_file(11), "");
  EXPECT_EQ(read(11), "ok frame 51");
  EXPECT_FALSE(hand_off_.has_fault(20)) << "reads raise nothing";
  write_away(11, "own");
  EXPECT_EQ(read(11), "ok own");
  EXPECT_EQ(read(10), "ok frame 50");
  char frame[16] = {};
  ASSERT_EQ(pread(pool_, frame, 9, 51 * kPage), 9);
  EXPECT_STREQ(frame, "frame 51") << "the frame is everybody's";
}

TEST_F(AgentShareTest, PagesComeHomeWithWhatTheGuestHasThere) {
  share(10, 4, 50);
  write_away(12, "own");
  EXPECT_EQ(home(8, 8), Results{0}) << "pages that are not away stay as they are";
  EXPECT_EQ(in_ram_file(9), "");
  EXPECT_EQ(in_ram_file(10), "frame 50");
  EXPECT_EQ(in_ram_file(12), "own");
  hand_off_.protect(address(12), false);
  EXPECT_EQ(ask("write 0 12 again"), "ok");
  EXPECT_EQ(in_ram_file(12), "again");
  // Registered again: a hole raises an event.
  free_own(13, 1);
  toucher_->send("read 0 13");
  EXPECT_EQ(hand_off_.next_fault().address, address(13));
  hand_off_.install(address(13), "filled");
  EXPECT_EQ(toucher_->reply(), "ok filled");
}

TEST_F(AgentShareTest, MappingsMergeAgainWhenAllIsAtHome) {
  for (const int advice : {MADV_HUGEPAGE, MADV_DONTFORK, MADV_DONTDUMP}) {
    ASSERT_EQ(ask("advise 0 " + std::to_string(advice)), "ok");
  }
  EXPECT_EQ(toucher_->mappings(base_, kPages * kPage), 1u);
  for (uint64_t page = 0; page < 200; page += 2) share(page, 1, 255 - page);
  EXPECT_EQ(toucher_->mappings(base_, kPages * kPage), 200u);
  EXPECT_EQ(home(0, 64), Results{0});
  for (uint64_t page = 64; page < 200; ++page) EXPECT_EQ(home(page, 1), Results{0});
  EXPECT_EQ(toucher_->mappings(base_, kPages * kPage), 1u);
}

TEST_F(AgentShareTest, RunsThatFollowEachOtherAreOneMapping) {
  share(100, 8, 20);
  share(108, 8, 28);
  EXPECT_EQ(toucher_->mappings(base_, kPages * kPage), 3u);
}

TEST_F(AgentShareTest, DiscardedPagesAreNotShared) {
  for (uint64_t page = 10; page < 14; ++page) hand_off_.install(address(page), "x");
  ASSERT_EQ(ask("punch 0 " + std::to_string(12 * kPage) + " 4096"), "ok");
  EXPECT_EQ(daemon_.read_header().kind, static_cast<uint32_t>(kAgentDiscards));
  EXPECT_EQ(daemon_.share({{address(10), 4 * kPage, 0}, {address(10), 2 * kPage, 0}}),
            (Results{ECANCELED, 0}));
  // The mark was taken already, and the page is a hole still.
  EXPECT_EQ(discards_->take(), std::vector<uint32_t>{12});
  EXPECT_EQ(daemon_.share({{address(12), 2 * kPage, 0}}), Results{ECANCELED});
}

TEST_F(AgentShareTest, DiscardSendsPagesHomeBeforeItTakesEffect) {
  for (const std::string& discard :
       {"punch 0 " + std::to_string(11 * kPage) + " 8192", std::string("remove 0 11 2")}) {
    share(10, 4, 50);
    write_away(11, "own");
    ASSERT_EQ(ask(discard), "ok");
    EXPECT_EQ(daemon_.read_header().kind, static_cast<uint32_t>(kAgentDiscards));
    discards_->clear_pending();
    EXPECT_EQ(discards_->take(), (std::vector<uint32_t>{11, 12}));
    for (const uint64_t page : {11, 12}) {
      EXPECT_EQ(in_ram_file(page), "");
      toucher_->send("read 0 " + std::to_string(page));
      EXPECT_EQ(hand_off_.next_fault().address, address(page));
      hand_off_.install_zero(address(page));
      EXPECT_EQ(toucher_->reply(), "ok ");
    }
    EXPECT_EQ(read(10), "ok frame 50");
    EXPECT_EQ(home(10, 4), Results{0});
    hand_off_.protect(address(10), false);
    hand_off_.protect(address(13), false);
    free_own(10, 4);
  }
}

TEST_F(AgentShareTest, PartlyPunchedPagesKeepTheirRest) {
  share(10, 2, 50);
  ASSERT_EQ(ask("punch 0 " + std::to_string(10 * kPage + 2048) + " 2048"), "ok");
  EXPECT_EQ(in_ram_file(10), "frame 50");
  EXPECT_EQ(discards_->take(), std::vector<uint32_t>{});
  EXPECT_EQ(in_ram_file(11), "") << "the neighbour stays away";
}

TEST_F(AgentShareTest, ZapsSpareTheGuestsCopies) {
  share(10, 3, 50);
  write_away(11, "own");
  hand_off_.install(address(20), "plain");
  EXPECT_EQ(read(20), "ok plain");
  daemon_.send_sample({{address(8), 16 * kPage}});
  EXPECT_TRUE(eventually([&] { return !toucher_->mapped(address(20)); }));
  EXPECT_EQ(read(11), "ok own");
  EXPECT_EQ(read(20), "ok plain");
  EXPECT_EQ(ask("zap 0 0 1024"), "ok");
  EXPECT_FALSE(toucher_->mapped(address(20)));
  EXPECT_TRUE(toucher_->mapped(address(10)));
  EXPECT_EQ(read(11), "ok own");
}

TEST_F(AgentShareTest, RefusesWhatCannotBe) {
  hand_off_.install(address(10), "x");
  hand_off_.install(address(11), "x");
  const auto one = [&](const AgentShareRange& range) { return daemon_.share({range})[0]; };
  EXPECT_EQ(one({address(10) + 1, kPage, 0}), uint32_t{EINVAL});
  EXPECT_EQ(one({address(10), kPage + 1, 0}), uint32_t{EINVAL});
  EXPECT_EQ(one({address(10), 0, 0}), uint32_t{EINVAL});
  EXPECT_EQ(one({address(0), 65 * kPage, 0}), uint32_t{EINVAL});
  EXPECT_EQ(one({address(kPages - 1), 2 * kPage, 0}), uint32_t{EINVAL});
  EXPECT_EQ(one({4096, kPage, 0}), uint32_t{EINVAL});
  EXPECT_EQ(one({address(10), kPage, 17}), uint32_t{ERANGE});
  EXPECT_EQ(one({address(10), kPage, 256 * kPage}), uint32_t{ERANGE});
  EXPECT_EQ(one({address(10), 2 * kPage, 255 * kPage}), uint32_t{ERANGE});
  EXPECT_EQ(one({address(10), kPage, ~uint64_t{0} - 4095}), uint32_t{ERANGE});
  EXPECT_EQ(home(kPages - 1, 2), Results{EINVAL});
  EXPECT_EQ(home(3, 65), Results{EINVAL});
  EXPECT_EQ(read(10), "ok x");
  EXPECT_EQ(one({address(10), 2 * kPage, 0}), 0u);
  EXPECT_EQ(one({address(11), kPage, 0}), uint32_t{EBUSY}) << "its own copy would be lost";
}

TEST_F(AgentShareTest, NoMappingsLeft) {
  for (uint64_t page = 0; page < 40; ++page) hand_off_.install(address(page), "x");
  share(50, 8, 50);
  // The kernel's refusal at vm.max_map_count, which is the whole host's, is this one too.
  rlimit before{};
  ASSERT_EQ(prlimit(toucher_->pid(), RLIMIT_AS, nullptr, &before), 0);
  const rlimit none{kPage, before.rlim_max};
  ASSERT_EQ(prlimit(toucher_->pid(), RLIMIT_AS, &none, nullptr), 0);
  const Results shared = daemon_.share({{address(2), kPage, 0}});
  const Results came = home(54, 1);
  const std::string gave = ask("punch 0 " + std::to_string(55 * kPage) + " 4096");
  ASSERT_EQ(prlimit(toucher_->pid(), RLIMIT_AS, &before, nullptr), 0);
  EXPECT_EQ(shared, Results{ENOMEM});
  EXPECT_EQ(came, Results{ENOMEM});
  EXPECT_EQ(gave, "error " + std::to_string(ENOMEM));
  EXPECT_EQ(read(2), "ok x");
  EXPECT_EQ(read(54), "ok frame 54");
  EXPECT_EQ(read(55), "ok frame 55");
  EXPECT_EQ(in_ram_file(54), "") << "a frame there would pass for the page";
  EXPECT_EQ(discards_->take(), std::vector<uint32_t>{});
  EXPECT_EQ(home(54, 1), Results{0});
  EXPECT_EQ(in_ram_file(54), "frame 54");
}

TEST_F(AgentShareTest, AwayPagesOutliveTheDaemon) {
  share(10, 2, 50);
  daemon_.drop_agent();
  daemon_.accept_agent();
  const HandOff again = daemon_.read_hand_off();
  ASSERT_EQ(again.fds.size(), 7u);
  EXPECT_TRUE(same_file(again.fds[6], pool_));
  daemon_.send_accept();
  write_away(10, "own");
  EXPECT_EQ(home(10, 2), Results{0});
  EXPECT_EQ(in_ram_file(10), "own");
  EXPECT_EQ(in_ram_file(11), "frame 51");
}

TEST_F(AgentShareTest, NonsenseMeansReconnecting) {
  daemon_.send_header({kAgentMagic, kAgentShare, 65, 65 * sizeof(AgentShareRange)});
  daemon_.accept_agent();
  daemon_.read_hand_off();
  daemon_.send_accept();
  daemon_.send_header({kAgentMagic, kAgentHome, 2, sizeof(AgentRange)});
  daemon_.accept_agent();
  daemon_.read_hand_off();
  daemon_.send_accept();
  EXPECT_TRUE(toucher_->running());
}

}  // namespace
}  // namespace ballast::agent_test
