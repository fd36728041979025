// Sharing on the simulated machine: its misbehaviour, its memory, and the breaches it stops. The
// promises themselves are in machine/contract/share_contract.cc.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "machine/sim/sim_guest_memory.h"

namespace ballast::machine::sim {
namespace {

constexpr uint32_t kPages = 64;

void fill(std::span<std::byte> page, uint64_t value) {
  for (size_t at = 0; at < kPageBytes; at += 8) std::memcpy(&page[at], &value, 8);
}
uint64_t value_of(const std::byte* page) {
  uint64_t value = 0;
  std::memcpy(&value, page, 8);
  return std::memcmp(page, page + 8, kPageBytes - 8) == 0 ? value : ~uint64_t{0};
}

class SimSharingTest : public testing::Test {
 protected:
  explicit SimSharingTest(uint64_t seed = 1) : world_(seed) { make({}); }

  void make(SimMemoryOptions options) {
    options.page_count = kPages;
    memory_ = std::make_unique<SimGuestMemory>(world_, 1, options);
    memory_->set_pool(pool_);
  }
  // Pages and frames that hold `value` and the values behind it.
  void prepare(PageRun run, FrameIndex first, uint64_t value) {
    for (uint32_t i = 0; i < run.count; ++i) {
      fill(pool_.frame(first + i), value + i);
      ASSERT_EQ(memory_->install({run.first + i, 1}, pool_.frame(first + i), Sealing::kSealed).stop,
                InstallStop::kDone);
    }
  }
  Remapped end() {
    Remapped end;
    for (int i = 0; i < 10000; ++i) {
      if (memory_->poll_remapped(end)) return end;
      world_.advance(10 * kMicrosecond);
    }
    ADD_FAILURE() << "no end";
    return end;
  }
  void share(PageRun run, FrameIndex first, uint64_t value) {
    prepare(run, first, value);
    ASSERT_TRUE(memory_->start_share(run, first));
    ASSERT_TRUE(end().done);
    ASSERT_EQ(memory_->discard(run), MemoryResult::kOk);
  }
  uint64_t guest_reads(PageIndex page) { return value_of(memory_->touch(0, page, false)); }
  bool guest_writes(PageIndex page, uint64_t value) {
    std::byte* frame = memory_->touch(0, page, true);
    if (frame != nullptr) fill({frame, kPageBytes}, value);
    return frame != nullptr;
  }
  void next_daemon() {
    EXPECT_THROW(world_.kill_daemon(), DaemonKilled);
    for (int i = 0; i < 20; ++i) memory_->step_remaps();
    world_.advance(kMillisecond);
    world_.adopt();
  }

  SimWorld world_;
  SimSharePool pool_{world_, 1, kPages};
  std::unique_ptr<SimGuestMemory> memory_;
  const PageRun run_{PageIndex(8), 4};
};
using SimSharingDeathTest = SimSharingTest;

TEST_F(SimSharingTest, FramesAndPrivateCopiesAreCounted) {
  share(run_, FrameIndex(0), 100);
  EXPECT_EQ(pool_.frames(), 4u);
  EXPECT_EQ(memory_->frames(), 0u);
  EXPECT_EQ(world_.frames(), 0u);
  ASSERT_EQ(memory_->unseal({PageIndex(9), 2}), MemoryResult::kOk);
  EXPECT_TRUE(guest_writes(PageIndex(9), 7));
  EXPECT_TRUE(guest_writes(PageIndex(10), 8));
  EXPECT_EQ(memory_->private_copies(), 2u);
  EXPECT_EQ(world_.frames(), 2u);
  // At home each page has its own frame; until the mapping changes there are both.
  uint64_t most = 0;
  world_.on_growth = [&] { most = std::max(most, world_.frames()); };
  ASSERT_TRUE(memory_->start_home(run_));
  EXPECT_TRUE(end().done);
  EXPECT_EQ(most, 6u);
  EXPECT_EQ(world_.frames(), 4u);
  EXPECT_EQ(memory_->private_copies(), 0u);
  pool_.release({FrameIndex(0), 4});
  EXPECT_EQ(pool_.frames(), 0u);
  world_.on_growth = {};
}

TEST_F(SimSharingTest, ADeadVmLetsGo) {
  share(run_, FrameIndex(0), 100);
  prepare({PageIndex(20), 1}, FrameIndex(9), 7);
  ASSERT_TRUE(memory_->start_share({PageIndex(20), 1}, FrameIndex(9)));
  EXPECT_EQ(pool_.holds(FrameIndex(9)), 1u);
  memory_->die();
  Remapped end;
  EXPECT_FALSE(memory_->poll_remapped(end));
  EXPECT_FALSE(memory_->start_home(run_));
  pool_.release({FrameIndex(0), 10});
  EXPECT_EQ(pool_.frames(), 0u);
}

TEST_F(SimSharingTest, ARefusedRequestChangesNothing) {
  make({.refused_remaps = 1000});
  prepare(run_, FrameIndex(0), 100);
  ASSERT_TRUE(memory_->start_share(run_, FrameIndex(0)));
  EXPECT_FALSE(end().done);
  EXPECT_FALSE(memory_->away(PageIndex(8)));
  EXPECT_FALSE(guest_writes(PageIndex(8), 1)) << "it is still sealed";
  ASSERT_EQ(memory_->unseal(run_), MemoryResult::kOk);
  EXPECT_TRUE(guest_writes(PageIndex(8), 1));
  pool_.release({FrameIndex(0), 4});

  world_.stop_faults();
  share({PageIndex(30), 1}, FrameIndex(30), 50);
  EXPECT_EQ(guest_reads(PageIndex(30)), 50u);
}

TEST_F(SimSharingTest, SleepingWritersSlipIn) {
  make({.slips = 1000});
  prepare(run_, FrameIndex(0), 100);
  EXPECT_FALSE(guest_writes(PageIndex(9), 7));
  ASSERT_TRUE(memory_->start_share(run_, FrameIndex(0)));
  for (int i = 0; i < 1000 && memory_->asleep(0); ++i) {
    world_.advance(kMicrosecond);
    memory_->step_remaps();
  }
  EXPECT_TRUE(guest_writes(PageIndex(9), 7));
  const Remapped ended = end();
  EXPECT_TRUE(ended.done);
  EXPECT_EQ(ended.written, 0b0010u);
  EXPECT_EQ(memory_->private_copies(), 1u);
  EXPECT_EQ(value_of(pool_.bytes(FrameIndex(1)).data()), 101u);
  EXPECT_EQ(guest_reads(PageIndex(9)), 7u);
  EXPECT_FALSE(guest_writes(PageIndex(9), 8)) << "it traps like the others";
}

TEST_F(SimSharingTest, ALostLinkIsToldOnceAndHomeSettlesIt) {
  make({.lost_links = 500});
  // True if the request came to its end, false if it was lost.
  const auto ends = [this] {
    Remapped end;
    for (int step = 0; step < 1000; ++step) {
      world_.advance(100 * kMicrosecond);
      if (memory_->poll_remapped(end)) return true;
      if (memory_->remaps_lost()) return false;
    }
    ADD_FAILURE() << "neither ended nor lost";
    return false;
  };
  uint32_t lost = 0;
  uint32_t carried_out = 0;
  for (uint32_t i = 0; i < 40; ++i) {
    prepare(run_, FrameIndex(0), 100);
    ASSERT_TRUE(memory_->start_share(run_, FrameIndex(0)));
    EXPECT_FALSE(memory_->remaps_lost());
    if (!ends()) {
      EXPECT_FALSE(memory_->remaps_lost());
      ++lost;
      carried_out += memory_->away(PageIndex(8)) ? 1 : 0;
    }
    EXPECT_EQ(guest_reads(PageIndex(8)), 100u);
    do {
      ASSERT_TRUE(memory_->start_home(run_));
    } while (!ends());
    EXPECT_FALSE(memory_->away(PageIndex(8)));
    EXPECT_EQ(guest_reads(PageIndex(8)), 100u);
    ASSERT_EQ(memory_->discard(run_), MemoryResult::kOk);
    pool_.release({FrameIndex(0), 4});
  }
  EXPECT_GT(lost, 10u);
  EXPECT_GT(carried_out, 0u);
  EXPECT_LT(carried_out, lost);
}

TEST_F(SimSharingTest, ADaemonsDeathEndsItsRequestsOneWayOrTheOther) {
  uint32_t carried_out = 0;
  constexpr uint32_t kTries = 40;
  for (uint32_t i = 0; i < kTries; ++i) {
    make({});
    prepare(run_, FrameIndex(0), 100);
    ASSERT_TRUE(memory_->start_share(run_, FrameIndex(0)));
    if (i % 2 == 0) world_.advance(kMillisecond);
    next_daemon();
    Remapped end;
    EXPECT_FALSE(memory_->poll_remapped(end));
    EXPECT_FALSE(memory_->remaps_lost());
    EXPECT_TRUE(memory_->away(PageIndex(8)) == memory_->away(PageIndex(11)));
    carried_out += memory_->away(PageIndex(8)) ? 1 : 0;
    EXPECT_EQ(guest_reads(PageIndex(10)), 102u);
    ASSERT_EQ(memory_->unseal(run_), MemoryResult::kOk);
    EXPECT_TRUE(guest_writes(PageIndex(10), 7));
    ASSERT_TRUE(memory_->start_home(run_));
    EXPECT_TRUE(this->end().done);
    EXPECT_EQ(guest_reads(PageIndex(10)), 7u);
    memory_.reset();
    pool_.release({FrameIndex(0), 4});
  }
  EXPECT_GT(carried_out, kTries / 2);
  EXPECT_LT(carried_out, kTries);
}

// ---- breaches stop the program

TEST_F(SimSharingDeathTest, AMappedFrameIsNeitherStoredToNorReleased) {
  share(run_, FrameIndex(0), 100);
  EXPECT_DEATH(pool_.frame(FrameIndex(2))[5] = std::byte{1}, "");
  EXPECT_DEATH(pool_.release({FrameIndex(0), 8}), "is released, but 1 pages map it");
  prepare({PageIndex(20), 1}, FrameIndex(9), 7);
  ASSERT_TRUE(memory_->start_share({PageIndex(20), 1}, FrameIndex(9)));
  EXPECT_DEATH(pool_.frame(FrameIndex(9))[5] = std::byte{1}, "") << "it can be mapped any moment";
}

TEST_F(SimSharingDeathTest, AFrameThatWasNeverStoredIsNotRead) {
  const auto read_all = [this](FrameIndex frame) {
    return std::ranges::count(pool_.frame(frame), std::byte{1});
  };
  EXPECT_DEATH(
      {
        EXPECT_EQ(read_all(FrameIndex(3)), 0);
        std::vector<FrameRun> present;
        pool_.find_present(present);
      },
      "frame 3 of pool 1 was read before");
  fill(pool_.frame(FrameIndex(4)), 1);
  prepare(run_, FrameIndex(0), 100);
  EXPECT_DEATH((void)memory_->start_share(run_, FrameIndex(1)), "differs from frame 1");
  EXPECT_DEATH((void)memory_->start_share({PageIndex(8), 1}, FrameIndex(50)), "differs from");
}

TEST_F(SimSharingDeathTest, OnlySealedPresentPagesAreShared) {
  prepare(run_, FrameIndex(0), 100);
  ASSERT_EQ(memory_->unseal({PageIndex(9), 1}), MemoryResult::kOk);
  EXPECT_DEATH((void)memory_->start_share(run_, FrameIndex(0)), "page 9 .* not sealed");
  ASSERT_EQ(memory_->discard({PageIndex(9), 1}), MemoryResult::kOk);
  EXPECT_DEATH((void)memory_->start_share(run_, FrameIndex(0)), "page 9 .* a hole");
}

TEST_F(SimSharingDeathTest, NothingHappensToAPageBeforeTheEndIsKnown) {
  prepare(run_, FrameIndex(0), 100);
  ASSERT_TRUE(memory_->start_share(run_, FrameIndex(0)));
  EXPECT_DEATH((void)memory_->unseal({PageIndex(9), 1}), "unsealed before its share has ended");
  EXPECT_DEATH((void)memory_->discard({PageIndex(9), 1}), "discarded before its share has ended");
  EXPECT_DEATH((void)memory_->start_share({PageIndex(9), 1}, FrameIndex(1)), "shared before");
  ASSERT_TRUE(end().done);
  EXPECT_DEATH((void)memory_->start_share({PageIndex(9), 1}, FrameIndex(1)), "it is away");
  EXPECT_DEATH((void)memory_->install_zero({PageIndex(9), 1}), "installed, but it is away");
  ASSERT_TRUE(memory_->start_home(run_));
  EXPECT_DEATH((void)memory_->unseal({PageIndex(9), 1}), "unsealed before its home has ended");
  EXPECT_DEATH((void)memory_->discard({PageIndex(9), 1}), "discarded before its home has ended");
}

TEST_F(SimSharingDeathTest, APageThatWasGivenUpIsNotFilledWhileItsShareIsUnderWay) {
  prepare(run_, FrameIndex(0), 100);
  ASSERT_TRUE(memory_->start_share(run_, FrameIndex(0)));
  memory_->set_discard_bit(PageIndex(9));
  memory_->release(PageIndex(9));
  memory_->set_discard_bit(PageIndex(9));
  memory_->discard_bits()[0].store(0);
  EXPECT_DEATH((void)memory_->install_zero({PageIndex(9), 1}), "installed before its share");
  EXPECT_EQ(memory_->discard({PageIndex(9), 1}), MemoryResult::kOk);
  EXPECT_TRUE(end().done) << "nobody told the VM's side";
  EXPECT_TRUE(memory_->away(PageIndex(9)));
}

}  // namespace
}  // namespace ballast::machine::sim
