// The promises of machine/share_pool.h and of the sharing in machine/guest_memory.h.
#include <algorithm>

#include "machine/contract/memory_fixture.h"

namespace ballast::machine::contract {
namespace {

using Kind = Remapped::Kind;

class ShareContract : public MemoryFixture {
 protected:
  void SetUp() override {
    std::string why_not;
    machine_ = make_share_memory(why_not);
    if (!machine_) GTEST_SKIP() << why_not;
    ASSERT_TRUE(memory().can_share());
    ASSERT_NE(machine_->pool(), nullptr);
  }

  SharePool& pool() { return *machine_->pool(); }
  void store(FrameIndex frame, uint64_t value) {
    std::ranges::copy(pages_of({value}), pool().frame(frame).begin());
  }
  uint64_t peek_frame(FrameIndex frame) {
    uint64_t first = 0;
    std::memcpy(&first, pool().frame(frame).data(), 8);
    return first;
  }
  // It may be refused for now, but not for ever.
  template <typename Start>
  void must_start(const Start& start) {
    for (int i = 0; i < 100; ++i) {
      if (start()) return;
      machine_->let_time_pass();
    }
    FAIL() << "cannot be asked";
  }
  void ask_share(PageRun run, FrameIndex first) {
    must_start([&] { return memory().start_share(run, first); });
  }
  void ask_home(PageRun run) {
    must_start([&] { return memory().start_home(run); });
  }
  Remapped next_end() {
    Remapped end;
    for (int i = 0; i < 200; ++i) {
      if (memory().poll_remapped(end)) return end;
      EXPECT_FALSE(memory().remaps_lost());
      machine_->let_time_pass();
    }
    ADD_FAILURE() << "no end of a request";
    return end;
  }
  void expect_end(Kind kind, PageRun run, bool done = true) {
    const Remapped end = next_end();
    EXPECT_EQ(end.kind, kind);
    EXPECT_EQ(end.run, run);
    EXPECT_EQ(end.done, done);
    EXPECT_EQ(end.written, 0u);
  }
  // Pages and frames that hold `value` and the values behind it, the pages sealed.
  void prepare(PageRun run, FrameIndex first, uint64_t value) {
    for (uint32_t i = 0; i < run.count; ++i) {
      must_install({run.first + i, 1}, pages_of({value + i}));
      store(first + i, value + i);
    }
    ASSERT_EQ(memory().seal(run), MemoryResult::kOk);
  }
  void share(PageRun run, FrameIndex first) {
    ask_share(run, first);
    expect_end(Kind::kShare, run);
    ASSERT_EQ(memory().discard(run), MemoryResult::kOk);
  }
  void prepare_and_share(PageRun run, FrameIndex first, uint64_t value) {
    prepare(run, first, value);
    share(run, first);
  }
  void go_home(PageRun run) {
    ask_home(run);
    expect_end(Kind::kHome, run);
    ASSERT_EQ(memory().unseal(run), MemoryResult::kOk);
  }
  void write(int vcpu, PageIndex page, uint64_t value) {
    machine_->begin_write(vcpu, page, value);
    ASSERT_TRUE(machine_->ends(vcpu)) << "page " << page.raw();
  }
  // The write traps; then it is let through.
  void write_sealed(PageIndex page, uint64_t value) {
    machine_->begin_write(0, page, value);
    expect_fault(page, FaultKind::kSealed);
    EXPECT_TRUE(machine_->sleeps(0));
    ASSERT_EQ(memory().unseal({page, 1}), MemoryResult::kOk);
    ASSERT_TRUE(machine_->ends(0));
  }
};

TEST_F(ShareContract, FramesAreZerosUntilStoredAndFreeAfterRelease) {
  EXPECT_EQ(pool().frame_count(), kFrames);
  std::vector<FrameRun> present;
  pool().find_present(present);
  EXPECT_TRUE(present.empty());
  for (const uint32_t frame : {3u, 4u, kFrames - 1})
    pool().frame(FrameIndex(frame))[9] = std::byte{1};
  const auto bytes = pool().frame(FrameIndex(4));
  EXPECT_EQ(std::ranges::count(bytes, std::byte{0}), std::ptrdiff_t{kPageBytes - 1});
  present = {{FrameIndex(1), 1}};  // appended to
  pool().find_present(present);
  EXPECT_EQ(present, (std::vector<FrameRun>{
                         {FrameIndex(1), 1}, {FrameIndex(3), 2}, {FrameIndex(kFrames - 1), 1}}));
  pool().release({FrameIndex(4), 1});
  present.clear();
  pool().find_present(present);
  EXPECT_EQ(present, (std::vector<FrameRun>{{FrameIndex(3), 1}, {FrameIndex(kFrames - 1), 1}}));
  pool().frame(FrameIndex(4))[0] = std::byte{2};
  EXPECT_EQ(pool().frame(FrameIndex(4))[9], std::byte{0});
  EXPECT_EQ(pool().frame(FrameIndex(3))[9], std::byte{1});
}

TEST_F(ShareContract, ReadsSeeTheFrameAndTheOwnFramesStayUntilDiscarded) {
  const PageRun run{PageIndex(10), 4};
  prepare(run, FrameIndex(20), 100);
  ask_share(run, FrameIndex(20));
  expect_end(Kind::kShare, run);
  EXPECT_EQ(present(), std::vector<PageRun>{run});
  EXPECT_EQ(peek(PageIndex(12)), 102u);
  for (uint32_t i = 0; i < run.count; ++i) expect_read(0, run.first + i, 100 + i);
  ASSERT_EQ(memory().discard(run), MemoryResult::kOk);
  EXPECT_TRUE(present().empty());
  for (uint32_t i = 0; i < run.count; ++i) expect_read(1, run.first + i, 100 + i);
}

TEST_F(ShareContract, AWriteTrapsAndThenMakesAPrivateCopy) {
  prepare_and_share({PageIndex(10), 3}, FrameIndex(5), 100);
  write_sealed(PageIndex(11), 7);
  EXPECT_EQ(peek_frame(FrameIndex(6)), 101u);
  EXPECT_TRUE(present().empty()) << "a private copy is not in the RAM file";
  expect_read(1, PageIndex(11), 7);
  write(1, PageIndex(11), 8);
  expect_read(0, PageIndex(11), 8);
  // Its neighbours trap as before.
  expect_read(0, PageIndex(10), 100);
  write_sealed(PageIndex(12), 9);
  EXPECT_EQ(peek_frame(FrameIndex(7)), 102u);
}

TEST_F(ShareContract, OneFrameUnderTwoPages) {
  prepare_and_share({PageIndex(10), 2}, FrameIndex(5), 100);
  must_install({PageIndex(30), 1}, pages_of({101}), Sealing::kSealed);
  share({PageIndex(30), 1}, FrameIndex(6));
  write_sealed(PageIndex(30), 7);
  expect_read(0, PageIndex(11), 101);
  write_sealed(PageIndex(11), 8);
  expect_read(0, PageIndex(30), 7);
  expect_read(0, PageIndex(11), 8);
  EXPECT_EQ(peek_frame(FrameIndex(6)), 101u);
}

TEST_F(ShareContract, AWriterThatSleptBeforeTheShareGetsAPrivateCopy) {
  const PageRun run{PageIndex(10), 1};
  prepare(run, FrameIndex(5), 100);
  machine_->begin_write(0, run.first, 7);
  expect_fault(run.first, FaultKind::kSealed);
  share(run, FrameIndex(5));
  EXPECT_TRUE(machine_->sleeps(0));
  ASSERT_EQ(memory().unseal(run), MemoryResult::kOk);
  ASSERT_TRUE(machine_->ends(0));
  expect_read(1, run.first, 7);
  EXPECT_EQ(peek_frame(FrameIndex(5)), 100u);
}

TEST_F(ShareContract, AWokenWriterFindsTheSharedPageSealed) {
  prepare_and_share({PageIndex(10), 1}, FrameIndex(5), 100);
  machine_->begin_write(0, PageIndex(10), 7);
  expect_fault(PageIndex(10), FaultKind::kSealed);
  ASSERT_EQ(memory().wake({PageIndex(0), kPages}), MemoryResult::kOk);
  expect_fault(PageIndex(10), FaultKind::kSealed);
  EXPECT_TRUE(machine_->sleeps(0));
  ASSERT_EQ(memory().unseal({PageIndex(10), 1}), MemoryResult::kOk);
  ASSERT_TRUE(machine_->ends(0));
  EXPECT_EQ(peek_frame(FrameIndex(5)), 100u);
}

TEST_F(ShareContract, HomeBringsBackPrivateCopiesAndFrames) {
  const PageRun run{PageIndex(10), 3};
  prepare_and_share(run, FrameIndex(5), 100);
  write_sealed(PageIndex(11), 7);
  go_home(run);
  EXPECT_EQ(present(), std::vector<PageRun>{run});
  EXPECT_EQ(peek(PageIndex(10)), 100u);
  EXPECT_EQ(peek(PageIndex(11)), 7u);
  EXPECT_EQ(peek(PageIndex(12)), 102u);
  // Nobody maps the frames: they may change and go.
  store(FrameIndex(5), 1);
  pool().release({FrameIndex(5), 3});
  expect_read(0, PageIndex(10), 100);
  // They are pages like all others.
  write(0, PageIndex(10), 8);
  EXPECT_EQ(peek(PageIndex(10)), 8u);
  ASSERT_EQ(memory().seal(run), MemoryResult::kOk);
  machine_->begin_write(0, PageIndex(12), 9);
  expect_fault(PageIndex(12), FaultKind::kSealed);
  ASSERT_EQ(memory().unseal(run), MemoryResult::kOk);
  ASSERT_TRUE(machine_->ends(0));
  EXPECT_EQ(peek(PageIndex(12)), 9u);
}

TEST_F(ShareContract, HomeReplacesAnOwnFrameThatWasNotDiscardedYet) {
  const PageRun run{PageIndex(10), 2};
  prepare(run, FrameIndex(5), 100);
  ask_share(run, FrameIndex(5));
  expect_end(Kind::kShare, run);
  write_sealed(PageIndex(11), 7);
  EXPECT_EQ(peek(PageIndex(11)), 101u) << "only the RAM file is seen";
  go_home(run);
  EXPECT_EQ(peek(PageIndex(10)), 100u);
  EXPECT_EQ(peek(PageIndex(11)), 7u);
}

TEST_F(ShareContract, AWriterThatSleptBeforeTheHomeComingWritesToTheRamFile) {
  prepare_and_share({PageIndex(10), 1}, FrameIndex(5), 100);
  machine_->begin_write(0, PageIndex(10), 7);
  expect_fault(PageIndex(10), FaultKind::kSealed);
  go_home({PageIndex(10), 1});
  ASSERT_TRUE(machine_->ends(0));
  EXPECT_EQ(peek(PageIndex(10)), 7u);
  EXPECT_EQ(peek_frame(FrameIndex(5)), 100u);
}

TEST_F(ShareContract, HomeLeavesPagesAtHomeAsTheyAre) {
  prepare_and_share({PageIndex(12), 2}, FrameIndex(5), 100);
  must_install({PageIndex(14), 2}, pages_of({50, 60}));
  go_home({PageIndex(8), 8});
  go_home({PageIndex(8), 8});
  EXPECT_EQ(present(), (std::vector<PageRun>{{PageIndex(12), 4}}));
  EXPECT_EQ(peek(PageIndex(13)), 101u);
  EXPECT_EQ(peek(PageIndex(15)), 60u);
  machine_->begin_read(0, PageIndex(9));
  expect_fault(PageIndex(9), FaultKind::kMissing);
  must_install_zero({PageIndex(9), 1});
  ASSERT_TRUE(machine_->ends(0));
  write(0, PageIndex(14), 51);
  EXPECT_EQ(peek(PageIndex(14)), 51u);
}

TEST_F(ShareContract, APartOfARunComesHomeAlone) {
  prepare_and_share({PageIndex(110), 8}, FrameIndex(5), 100);
  go_home({PageIndex(113), 2});
  EXPECT_EQ(present(), (std::vector<PageRun>{{PageIndex(113), 2}}));
  for (uint32_t i = 0; i < 8; ++i) expect_read(0, PageIndex(110 + i), 100 + i);
  write(0, PageIndex(113), 7);
  write_sealed(PageIndex(115), 8);
  // And can be shared again.
  ASSERT_EQ(memory().seal({PageIndex(113), 1}), MemoryResult::kOk);
  ASSERT_EQ(memory().read({PageIndex(113), 1}, pool().frame(FrameIndex(40))), MemoryResult::kOk);
  share({PageIndex(113), 1}, FrameIndex(40));
  EXPECT_EQ(present(), (std::vector<PageRun>{{PageIndex(114), 1}}));
  expect_read(0, PageIndex(113), 7);
}

TEST_F(ShareContract, AfterAGuestsDiscardAnAwayPageIsAHole) {
  prepare_and_share({PageIndex(10), 3}, FrameIndex(5), 100);
  write_sealed(PageIndex(11), 7);
  for (const PageIndex page : {PageIndex(10), PageIndex(11)}) {
    machine_->guest_discards(page);
    EXPECT_EQ(memory().discard_bits()[0].exchange(0), uint64_t{1} << page.raw());
    machine_->begin_read(0, page);
    expect_fault(page, FaultKind::kMissing);
    must_install_zero({page, 1});
    ASSERT_TRUE(machine_->ends(0));
    EXPECT_EQ(machine_->value_read(0), 0u);
    write(0, page, 3);
    EXPECT_EQ(peek(page), 3u);
  }
  expect_read(0, PageIndex(12), 102);
  EXPECT_EQ(peek_frame(FrameIndex(5)), 100u);
  EXPECT_EQ(peek_frame(FrameIndex(6)), 101u);
}

TEST_F(ShareContract, AShareWithAPageThatWasGivenUpChangesNothing) {
  const PageRun run{PageIndex(10), 3};
  prepare(run, FrameIndex(5), 100);
  machine_->guest_discards(PageIndex(11));
  ask_share(run, FrameIndex(5));
  expect_end(Kind::kShare, run, false);
  EXPECT_EQ(present(), (std::vector<PageRun>{{PageIndex(10), 1}, {PageIndex(12), 1}}));
  write_sealed(PageIndex(12), 7);
  EXPECT_EQ(peek(PageIndex(12)), 7u) << "in the RAM file";
  EXPECT_EQ(peek(PageIndex(10)), 100u);
  machine_->begin_read(0, PageIndex(11));
  expect_fault(PageIndex(11), FaultKind::kMissing);
  must_install_zero({PageIndex(11), 1});
  ASSERT_TRUE(machine_->ends(0));
  pool().release({FrameIndex(5), 3});
}

TEST_F(ShareContract, EndsComeInTheOrderOfTheRequests) {
  const PageRun a{PageIndex(10), 2};
  const PageRun b{PageIndex(110), GuestMemory::kRemapPagesMax};
  const PageRun c{PageIndex(200), 1};
  prepare(a, FrameIndex(0), 100);
  prepare(b, FrameIndex(10), 200);
  prepare(c, FrameIndex(100), 300);
  ask_share(a, FrameIndex(0));
  ask_share(b, FrameIndex(10));
  ask_home(a);
  ask_share(c, FrameIndex(100));
  ask_home(b);
  expect_end(Kind::kShare, a);
  expect_end(Kind::kShare, b);
  expect_end(Kind::kHome, a);
  expect_end(Kind::kShare, c);
  expect_end(Kind::kHome, b);
  Remapped end;
  EXPECT_FALSE(memory().poll_remapped(end));
  EXPECT_FALSE(memory().remaps_lost());
  for (uint32_t i = 0; i < b.count; ++i) EXPECT_EQ(peek(b.first + i), 200u + i);
  expect_read(0, c.first, 300);
}

TEST_F(ShareContract, ASampleLeavesAwayPagesOut) {
  if (!memory().can_sample()) GTEST_SKIP() << "this machine has no access sampling";
  prepare_and_share({PageIndex(10), 2}, FrameIndex(5), 100);
  write_sealed(PageIndex(11), 7);
  must_install({PageIndex(12), 1}, pages_of({120}));
  expect_read(0, PageIndex(12), 120);
  sample({PageIndex(10), 3}, 0x3);  // away pages read as touched
  expect_read(0, PageIndex(10), 100);
  expect_read(0, PageIndex(11), 7);
}

TEST_F(ShareContract, AWriteThatSlipsInIsReportedAndStaysPrivate) {
  const PageRun run{PageIndex(10), 3};
  prepare(run, FrameIndex(5), 100);
  ask_share(run, FrameIndex(5));
  if (!machine_->slip_in(Kind::kShare, 0, PageIndex(11), 7)) {
    GTEST_SKIP() << "this machine cannot be made to let a write slip in";
  }
  ASSERT_TRUE(machine_->ends(0));
  const Remapped end = next_end();
  EXPECT_TRUE(end.done);
  EXPECT_EQ(end.written, 0b010u);
  ASSERT_EQ(memory().discard(run), MemoryResult::kOk);
  EXPECT_EQ(peek_frame(FrameIndex(6)), 101u);
  expect_read(1, PageIndex(11), 7);
  write_sealed(PageIndex(11), 8);
  go_home(run);
  EXPECT_EQ(peek(PageIndex(11)), 8u);
  EXPECT_EQ(peek(PageIndex(12)), 102u);
}

TEST_F(ShareContract, AWriteDuringTheHomeComingIsNotLost) {
  const PageRun run{PageIndex(10), GuestMemory::kRemapPagesMax};
  prepare_and_share(run, FrameIndex(5), 100);
  write_sealed(PageIndex(11), 7);
  ask_home(run);
  if (!machine_->slip_in(Kind::kHome, 0, PageIndex(11), 8)) {
    GTEST_SKIP() << "this machine cannot be made to let a write slip in";
  }
  expect_end(Kind::kHome, run);
  ASSERT_EQ(memory().unseal(run), MemoryResult::kOk);
  ASSERT_TRUE(machine_->ends(0));
  EXPECT_EQ(peek(PageIndex(11)), 8u);
  EXPECT_EQ(peek(PageIndex(12)), 102u);
}

TEST_F(ShareContract, ALossOfRequestsIsToldOnceAndHomeSettlesThem) {
  const PageRun a{PageIndex(10), 3};
  const PageRun b{PageIndex(110), GuestMemory::kRemapPagesMax};
  prepare(a, FrameIndex(0), 100);
  prepare(b, FrameIndex(10), 200);
  ask_share(a, FrameIndex(0));
  ask_share(b, FrameIndex(10));
  machine_->lose_requests();
  bool told = memory().remaps_lost();
  for (int i = 0; i < 200 && !told; ++i) {
    machine_->let_time_pass();
    told = memory().remaps_lost();
  }
  ASSERT_TRUE(told);
  EXPECT_FALSE(memory().remaps_lost());
  Remapped end;
  EXPECT_FALSE(memory().poll_remapped(end));
  for (uint32_t i = 0; i < b.count; ++i) expect_read(0, b.first + i, 200 + i);
  go_home(a);
  go_home(b);
  for (uint32_t i = 0; i < b.count; ++i) EXPECT_EQ(peek(b.first + i), 200u + i);
  write(0, PageIndex(11), 7);
  EXPECT_EQ(peek(PageIndex(11)), 7u);
  pool().release({FrameIndex(0), 74});
  expect_read(0, PageIndex(12), 102);
}

}  // namespace
}  // namespace ballast::machine::contract
