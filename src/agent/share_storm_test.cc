// Both ends of sharing together: the real agent in a child process whose guest never rests, and the
// daemon's AgentLink, UffdMemory and LinuxSharePool, driven by a worker as simple as it can be.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <memory>
#include <random>

#include "agent/agent_test_vm.h"

namespace ballast::linux_machine {
namespace {

using agent_test::TestVm;
using agent_test::Toucher;
using machine::Fault;
using machine::FaultKind;
using machine::MemoryResult;
using machine::Remapped;

constexpr uint32_t kPages = 512;

// One VM whose memory is page-shared with itself: page p donates its contents to frame p, or to
// frame kPages + p.
class Worker {
 public:
  void rejoin() {
    vm_.reconnect();
    ASSERT_TRUE(memory().remaps_lost());
    EXPECT_FALSE(memory().remaps_lost());
    // Whether they were carried out is unknown: home settles it.
    for (uint32_t i = 0; i < kPages; ++i) {
      if (pages_[i].busy) pages_[i] = {State::kLoose, false, pages_[i].given_up};
    }
    end_busy();
  }

  void serve() {
    std::array<Fault, 16> faults;
    const size_t count = memory().read_faults(faults);
    for (const Fault& fault : std::span(faults).first(count)) handle(fault);
    vm_.take_messages(0);
    Remapped end;
    while (memory().poll_remapped(end)) finish(end);
    take_discards();
  }
  void serve_until(const std::function<bool()>& condition) {
    ASSERT_TRUE(agent_test::eventually([&] {
      for (int i = 0; i < 200 && !condition(); ++i) serve();
      return condition();
    }));
  }
  void serve_until_idle() {
    serve_until([&] { return under_way_ == 0; });
  }

  // Shares what can be of a run: sealed, present, at home.
  void share(PageRun run, uint32_t frame_offset) {
    run = trim(run, [&](const Page& page) { return page.state == State::kHome; });
    std::vector<PageRun> present;
    ASSERT_EQ(memory().find_present(run, present), MemoryResult::kOk);
    if (present.empty()) return;
    run = present.front();
    ASSERT_EQ(memory().seal(run), MemoryResult::kOk);
    std::vector<std::byte> bytes(pages_to_bytes(run.count));
    ASSERT_EQ(memory().read(run, bytes), MemoryResult::kOk);
    const FrameIndex first(run.first.raw() + frame_offset);
    for (uint32_t i = 0; i < run.count; ++i) {
      std::memcpy(pool().frame(first + i).data(), &bytes[pages_to_bytes(i)], kPageBytes);
    }
    if (!memory().start_share(run, first)) {
      ASSERT_EQ(memory().unseal(run), MemoryResult::kOk);
      return;
    }
    set_busy(run);
    ++asked_;
  }
  void home(PageRun run) {
    run = trim(run, [](const Page&) { return true; });
    if (run.count == 0 || !memory().start_home(run)) return;
    for (uint32_t i = 0; i < run.count; ++i) {
      Page& page = pages_[run.first.raw() + i];
      if (page.state == State::kShared) page.state = State::kLoose;
    }
    set_busy(run);
    ++asked_;
  }
  // Everything, in order; waits for it.
  void all_home() {
    for (uint32_t first = 0; first < kPages; first += 64) {
      serve_until_idle();
      home({PageIndex(first), 64});
    }
    serve_until_idle();
  }
  void sample(PageRun run) { (void)memory().start_sample(std::span(&run, 1)); }

  Toucher& toucher() { return vm_.toucher(); }
  UffdMemory& memory() { return vm_.memory(); }
  LinuxSharePool& pool() { return *vm_.pool(); }
  size_t mappings() { return toucher().mappings(vm_.base(), pages_to_bytes(kPages)); }

  uint64_t asked_ = 0, shares_ = 0, refused_ = 0, breaks_ = 0, homes_ = 0, written_ = 0,
           discards_ = 0;

 private:
  enum class State { kHome, kShared, kLoose };
  struct Page {
    State state = State::kHome;
    bool busy = false;      // a request is under way
    bool given_up = false;  // meanwhile
  };

  template <typename May>
  PageRun trim(PageRun run, const May& may) const {
    uint32_t count = 0;
    while (count < run.count && run.first.raw() + count < kPages) {
      const Page& page = pages_[run.first.raw() + count];
      if (page.busy || !may(page)) break;
      ++count;
    }
    return {run.first, count};
  }
  void set_busy(PageRun run) {
    for (uint32_t i = 0; i < run.count; ++i) pages_[run.first.raw() + i].busy = true;
    ++under_way_;
  }

  void take_discards() {
    const auto words = memory().discard_bits();
    for (uint32_t word = 0; word < words.size(); ++word) {
      uint64_t bits = words[word].exchange(0, std::memory_order_acquire);
      for (; bits != 0; bits &= bits - 1) {
        Page& page = pages_[word * 64 + static_cast<uint32_t>(__builtin_ctzll(bits))];
        ++discards_;
        if (page.busy) {
          page.given_up = true;
        } else {
          page.state = State::kHome;
        }
      }
    }
  }

  void handle(const Fault& fault) {
    take_discards();
    Page& page = pages_[fault.page.raw()];
    const PageRun one{fault.page, 1};
    if (page.busy) {
      deferred_.push_back(fault);
    } else if (fault.kind == FaultKind::kSealed) {
      if (page.state == State::kShared) {
        page.state = State::kLoose;
        ++breaks_;
      }
      ASSERT_EQ(memory().unseal(one), MemoryResult::kOk);
    } else if (page.state == State::kHome) {
      if (memory().install_zero(one).installed == 0) {
        ASSERT_EQ(memory().wake(one), MemoryResult::kOk);
      }
    } else {
      // The agent sent it home for a discard and has not marked it yet: it faults again.
      ASSERT_EQ(memory().wake(one), MemoryResult::kOk);
    }
  }

  void finish(const Remapped& end) {
    for (uint32_t i = 0; i < end.run.count; ++i) {
      Page& page = pages_[end.run.first.raw() + i];
      ASSERT_TRUE(page.busy);
      if (end.kind == Remapped::Kind::kHome) {
        if (end.done) page.state = State::kHome;
      } else if (end.done) {
        page.state = (end.written >> i & 1) != 0 ? State::kLoose : State::kShared;
        written_ += end.written >> i & 1;
      }
    }
    if (end.kind == Remapped::Kind::kHome) {
      ASSERT_TRUE(end.done);
      ++homes_;
      ASSERT_EQ(memory().unseal(end.run), MemoryResult::kOk);
    } else if (end.done) {
      ++shares_;
      ASSERT_EQ(memory().discard(end.run), MemoryResult::kOk);
    } else {
      ++refused_;
      ASSERT_EQ(memory().unseal(end.run), MemoryResult::kOk);
    }
    for (uint32_t i = 0; i < end.run.count; ++i) pages_[end.run.first.raw() + i].busy = false;
    end_busy();
  }

  void end_busy() {
    for (Page& page : pages_) {
      if (!page.busy && std::exchange(page.given_up, false)) page.state = State::kHome;
    }
    under_way_ = 0;
    for (const Page& page : pages_) under_way_ += page.busy ? 1 : 0;
    for (const Fault& fault : std::exchange(deferred_, {})) handle(fault);
  }

  TestVm vm_{{kPages}, 2 * kPages};
  std::array<Page, kPages> pages_{};
  std::vector<Fault> deferred_;
  uint32_t under_way_ = 0;
};

class ShareStormTest : public testing::Test {
 protected:
  void SetUp() override {
    const long fd = ::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) GTEST_SKIP() << "no userfaultfd here: " << strerror(errno);
    ::close(static_cast<int>(fd));
    worker_ = std::make_unique<Worker>();
    ASSERT_TRUE(worker_->memory().can_share());
  }
  void start_storm(uint32_t punches) {
    worker_->toucher().send("storm 0 " + std::to_string(punches));
    EXPECT_EQ(worker_->toucher().reply(), "ok");
  }
  // Ends the guest's thread, which looks at every page once more.
  void expect_nothing_wrong() {
    worker_->toucher().send("calm");
    pollfd answer{worker_->toucher().output(), POLLIN, 0};
    worker_->serve_until([&] { return ::poll(&answer, 1, 0) == 1; });
    const std::string reply = worker_->toucher().reply();
    EXPECT_EQ(reply.substr(reply.rfind(' ')), " 0") << worker_->toucher().errors();
    std::printf("guest: %s\n", reply.c_str());
  }
  PageRun random_run() {
    const uint32_t first = random_() % kPages;
    const uint32_t most = random_() % 4 == 0 ? 32 : 1;
    return {PageIndex(first), std::min(most, kPages - first)};
  }

  std::mt19937 random_{1};
  std::unique_ptr<Worker> worker_;
};

TEST_F(ShareStormTest, NoByteIsLostWhileTheGuestWritesAndGivesUp) {
  constexpr uint64_t kCycles = 100'000;
  start_storm(64);
  worker_->serve_until([&] { return worker_->discards_ > 10; });
  const size_t before = worker_->mappings();
  while (worker_->asked_ < kCycles && !HasFatalFailure()) {
    const PageRun run = random_run();
    switch (random_() % 8) {
      case 0:
        worker_->sample(run);
        break;
      case 1:
      case 2:
      case 3:
        worker_->home(run);
        break;
      default:
        worker_->share(run, random_() % 2 * kPages);
    }
    if (random_() % 4 == 0) worker_->serve();
  }
  worker_->all_home();
  EXPECT_EQ(worker_->mappings(), before) << "the kernel merged all mappings";
  expect_nothing_wrong();
  std::printf("%lu shared, %lu refused, %lu homes, %lu breaks, %lu written early, %lu discards\n",
              worker_->shares_, worker_->refused_, worker_->homes_, worker_->breaks_,
              worker_->written_, worker_->discards_);
  EXPECT_GT(worker_->shares_, 1000u);
  EXPECT_GT(worker_->breaks_, 1000u);
  EXPECT_GT(worker_->discards_, 1000u);
}

TEST_F(ShareStormTest, WritesBetweenMappingAndProtectionAreFound) {
  start_storm(0);
  // One page at a time: with more of them the guest runs into a sealed page, and sleeps, before the
  // agent comes to map anything.
  for (int round = 0; round < 100'000 && worker_->written_ < 3 && !HasFatalFailure(); ++round) {
    const PageRun one{PageIndex(random_() % kPages), 1};
    worker_->share(one, 0);
    worker_->serve_until_idle();
    worker_->home(one);
    worker_->serve_until_idle();
  }
  worker_->all_home();
  expect_nothing_wrong();
  EXPECT_GE(worker_->written_, 3u);
}

TEST_F(ShareStormTest, RequestsWithoutAnEndAreSettledByHome) {
  start_storm(64);
  worker_->serve_until([&] { return worker_->discards_ > 10; });
  for (int round = 0; round < 20 && !HasFatalFailure(); ++round) {
    for (int i = 0; i < 20; ++i) {
      worker_->share(random_run(), 0);
      worker_->serve();
    }
    worker_->share(random_run(), 0);
    for (int tries = 0; tries < 8; ++tries) worker_->home(random_run());
    worker_->memory().flush_remaps();
    worker_->rejoin();
    worker_->all_home();
  }
  expect_nothing_wrong();
}

TEST_F(ShareStormTest, TheVmCannotWriteThePool) {
  // The very descriptor that the agent maps from.
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, worker_->toucher().pid(), 0)));
  UniqueFd pool;
  for (int fd = 3; fd < 64 && !pool.valid(); ++fd) {
    UniqueFd theirs(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), fd, 0)));
    struct stat info {};
    if (!theirs.valid() || ::fstat(theirs.get(), &info) != 0) continue;
    if (worker_->pool().identity() == FileId{info.st_dev, info.st_ino}) pool = std::move(theirs);
  }
  ASSERT_TRUE(pool.valid());
  EXPECT_EQ(::pwrite(pool.get(), "x", 1, 0), -1);
  EXPECT_EQ(errno, EBADF);
  EXPECT_EQ(::fallocate(pool.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
  EXPECT_EQ(::ftruncate(pool.get(), 0), -1);
  EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, pool.get(), 0), MAP_FAILED);
  EXPECT_EQ(errno, EACCES);
  void* reads = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, pool.get(), 0);
  ASSERT_NE(reads, MAP_FAILED);
  EXPECT_EQ(::mprotect(reads, 4096, PROT_READ | PROT_WRITE), -1);
  ::munmap(reads, 4096);
}

}  // namespace
}  // namespace ballast::linux_machine
