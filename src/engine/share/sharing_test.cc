// Sharing between the VMs of one group, through the pager, over the simulated machine.
#include "engine/share/sharing_host.h"

namespace ballast::engine {
namespace {

TEST(Sharing, EqualPagesOfTwoVmsTakeOneFrame) {
  SharingHost host;
  for (uint32_t page = 0; page < 32; ++page) {
    host.write(0, page, 100 + page);
    host.write(1, page, 100 + page);
  }
  host.scan();
  EXPECT_EQ(host.count(0, PageState::kShared), 32u);
  EXPECT_EQ(host.count(1, PageState::kShared), 32u);
  EXPECT_EQ(host.group->frames(), 32u);
  EXPECT_EQ(host.pool.frames(), 32u);
  // Nothing but the frames is left in memory, and of those each VM is charged none.
  EXPECT_EQ(host.ledger->consumed(), pages_to_bytes(32) + 2 * Pager::overhead_bytes(256, true));
  EXPECT_EQ(host.group->shared_pages(), 64u);
  host.audit();
  host.check_all();
}

// A page that is said to be mapped to a frame, and is not, raises an event whenever it is touched.
TEST(Sharing, AVmThatLiesAboutItsMappingsIsStoppedAlone) {
  SharingHost host;
  host.write(0, 5, 42);
  host.write(1, 5, 42);
  host.scan();
  ASSERT_EQ(host.state(0, 5), PageState::kShared);
  const machine::Fault missing{PageIndex(5), machine::FaultKind::kMissing, false};
  const auto raise = [&](int times) {
    for (int i = 0; i < times; ++i) host.vms[0]->pager->handle(std::span(&missing, 1));
  };
  for (int seconds = 0; seconds < 5; ++seconds) {  // late ones: as many as QEMU has threads
    raise(200);
    host.pump_for(kSecond);
  }
  EXPECT_FALSE(host.vms[0]->control.frozen());
  raise(3000);
  EXPECT_TRUE(host.vms[0]->control.frozen());
  EXPECT_FALSE(host.vms[1]->control.frozen());
  EXPECT_EQ(host.vms[0]->control.events().back().kind, "agent.lied");
  host.check(1, 5);
  host.audit();
}

// Whatever the hash says, bytes decide. Contents that meet hide behind each other, no more.
TEST(Sharing, PagesWhoseHashesMeetAreNeverMerged) {
  for (const uint32_t bits : {0u, 1u, 4u}) {
    SharingHost host({.hash_bits = bits});
    for (uint32_t page = 0; page < 64; ++page) {
      host.write(0, page, 100 + page % 16);
      host.write(1, page, 200 + page);
    }
    host.scan(6);
    EXPECT_GT(host.count(0, PageState::kShared), 0u) << bits << " bits";  // equal ones still meet
    host.audit();
    host.check_all();
    for (uint32_t page = 0; page < 64; page += 3) host.write(1, page, 300 + page);
    host.scan(2);
    host.audit();
    host.check_all();
  }
}

TEST(Sharing, EqualPagesWithinOneVmTakeOneFrame) {
  SharingHost host({.vms = 1});
  for (uint32_t page = 0; page < 40; ++page) host.write(0, page, 100 + page % 4);
  host.scan(6);
  EXPECT_EQ(host.group->frames(), 4u);
  EXPECT_EQ(host.count(0, PageState::kShared), 40u);
  host.audit();
  host.check_all();
}

TEST(Sharing, ZerosCostNothing) {
  SharingHost host({.vms = 1});
  for (uint32_t page = 0; page < 40; ++page) host.write(0, page, 0);
  host.scan();
  EXPECT_GE(host.count(0, PageState::kZero), 40u);  // and those that were filled beside them
  EXPECT_EQ(host.count(0, PageState::kResident), 0u);
  EXPECT_EQ(host.group->frames(), 0u);
  host.check_all();
}

TEST(Sharing, AWriteMakesAPrivateCopyThatComesHome) {
  SharingHost host;
  for (uint32_t page = 0; page < 8; ++page) {
    host.write(0, page, 100 + page);
    host.write(1, page, 100 + page);
  }
  host.scan();
  host.write(0, 3, 7777);
  EXPECT_EQ(host.state(0, 3), PageState::kLoose);
  EXPECT_EQ(host.vms[0]->memory.private_copies(), 1u);
  host.check(1, 3);
  host.pump_for(40 * kMillisecond);
  EXPECT_EQ(host.state(0, 3), PageState::kResident);
  EXPECT_EQ(host.vms[0]->memory.private_copies(), 0u);
  EXPECT_EQ(host.group->frames(), 8u);  // vm 1 still has its own
  host.write(1, 3, 8888);
  host.pump_for(40 * kMillisecond);
  EXPECT_EQ(host.group->frames(), 7u);
  host.audit();
  host.check_all();
}

TEST(Sharing, AFrameLivesAsLongAsSomebodyHasIt) {
  SharingHost host({.vms = 3});
  for (uint32_t vm = 0; vm < 3; ++vm) host.write(vm, 5, 42);
  host.scan();
  ASSERT_EQ(host.group->frames(), 1u);
  host.vm_dies(0);
  EXPECT_EQ(host.group->frames(), 1u);
  host.check(1, 5);
  host.vm_dies(1);
  host.check(2, 5);
  host.audit();
  host.vm_dies(2);
  EXPECT_EQ(host.group->frames(), 0u);
  EXPECT_EQ(host.pool.frames(), 0u);
}

TEST(Sharing, AGuestGivesASharedPageUp) {
  SharingHost host;
  for (uint32_t vm = 0; vm < 2; ++vm) host.write(vm, 5, 42);
  host.scan();
  ASSERT_EQ(host.state(0, 5), PageState::kShared);
  host.discard(0, 5);
  host.pump_for(60 * kMillisecond);
  EXPECT_EQ(host.state(0, 5), PageState::kBallooned);
  host.check(0, 5);  // zeros
  host.check(1, 5);
  host.audit();
}

// A storm of writes to shared pages cannot exceed the budget: writers wait, reclaim makes room.
TEST(Sharing, AStormOfWritesStaysWithinTheBudget) {
  SharingHost host({.vms = 2, .pages = 1024, .budget_bytes = uint64_t{8} << 20});
  for (uint32_t page = 0; page < 800; ++page) {
    for (uint32_t vm = 0; vm < 2; ++vm) {
      host.write(vm, page, 1000 + page);
    }
    if (page % 100 == 99) host.scan(1);
  }
  host.scan();
  EXPECT_GT(host.count(0, PageState::kShared), 700u);
  const uint64_t all = 2 * 800 * kPageBytes;
  EXPECT_LT(host.ledger->consumed(), all);
  for (uint32_t page = 0; page < 800; ++page) {
    host.write(page % 2, page, 5000 + page);
    ASSERT_LE(host.ledger->consumed(), host.ledger->budget());
    ASSERT_LE(pages_to_bytes(host.vms[0]->memory.frames() + host.vms[1]->memory.frames() +
                             host.pool.frames()),
              host.ledger->budget());
  }
  host.pump_for(100 * kMillisecond);
  host.audit();
  host.check_all();
}

TEST(Sharing, TheNextDaemonKnowsWhatIsShared) {
  SharingHost host;
  for (uint32_t page = 0; page < 32; ++page) {
    host.write(0, page, 100 + page);
    host.write(1, page, 100 + page);
  }
  host.scan();
  const uint64_t consumed = host.ledger->consumed();
  host.restart();
  EXPECT_EQ(host.ledger->consumed(), consumed);
  EXPECT_EQ(host.group->frames(), 32u);
  EXPECT_EQ(host.group->shared_pages(), 64u);
  host.audit();
  host.check_all();
  host.write(0, 3, 7777);
  host.restart();  // with a Loose page
  host.check_all();
  host.pump_for(60 * kMillisecond);
  EXPECT_EQ(host.state(0, 3), PageState::kResident);
  host.audit();
  host.check_all();
}

// The one who is back first lets go of a frame that the other one still names.
TEST(Sharing, AbsentVmsKeepTheirFrames) {
  SharingHost host;
  for (uint32_t page = 0; page < 32; ++page) {
    host.write(0, page, 100 + page);
    host.write(1, page, 100 + page);
  }
  host.scan();
  std::byte* const frame = host.vms[0]->memory.touch(0, PageIndex(3), true);
  EXPECT_EQ(frame, nullptr);  // asleep in its write: served by the next daemon, before vm 1 is back
  host.restart();
  host.write(0, 3, 4711);
  host.pump_for(100 * kMillisecond);
  host.audit();
  host.check_all();
}

TEST(Sharing, MappingsAreNotUsedUp) {
  SharingHost host({.vms = 2, .mappings_max = 10});
  for (uint32_t page = 0; page < 100; page += 2) {
    host.write(0, page, 100 + page);
    host.write(1, page, 100 + page);
    host.write(0, page + 1, 10'000 + page);
    host.write(1, page + 1, 20'000 + page);
  }
  host.scan();
  EXPECT_EQ(host.count(0, PageState::kShared), 5u);
  host.audit();
  host.check_all();
}

// Everything that can go wrong on the VM's side, writers that race, daemons that die, many seeds.
TEST(Sharing, SurvivesATroubledVm) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    SharingSetup setup{.vms = 3, .pages = 128, .seed = seed};
    setup.memory.refused_remaps = 100;
    setup.memory.slow_remaps = 200;
    setup.memory.slips = 300;
    setup.memory.lost_links = 20;
    setup.memory.busy_remaps = 50;
    setup.memory.stale_events = 20;
    setup.memory.duplicate_events = 50;
    setup.memory.async_faults = seed % 3 == 0;
    SharingHost host(setup);
    host.setup.options.share_rate_max = 1 << 20;
    host.setup.options.share_scan_minutes = 1;
    host.set_options(host.setup.options);
    Random random(seed);
    for (int step = 0; step < 600; ++step) {
      const uint32_t vm = random.below(3);
      const uint32_t page = random.below(128);
      const uint32_t what = random.below(100);
      if (what < 60) {
        ASSERT_NO_FATAL_FAILURE(host.write(vm, page, random.below(12)));
      } else if (what < 90) {
        ASSERT_NO_FATAL_FAILURE(host.check(vm, page));
      } else if (what < 96) {
        host.discard(vm, page);
      } else if (what < 99) {
        for (int i = 0; i < 30; ++i) {
          host.pump_for(kMillisecond);
          host.world.advance(kSecond);
        }
      } else if (random.below(4) == 0) {
        host.restart();
      }
      if (step % 50 == 0) host.audit();
    }
    host.pump_for(200 * kMillisecond);
    host.audit();
    ASSERT_NO_FATAL_FAILURE(host.check_all());
  }
}

// A page whose request was lost may have its own frame and a private copy.
TEST(Sharing, WhatALostRequestLeftIsChargedUntilItIsHome) {
  uint32_t copies = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SharingSetup setup;
    setup.seed = seed;
    setup.memory.lost_links = 1000;
    setup.options.share_scan_minutes = 1;
    SharingHost host(setup);
    const uint64_t tables = host.ledger->consumed();
    host.write(0, 5, 42);
    host.write(1, 5, 42);
    setup.options.share_rate_max = 1 << 20;
    host.set_options(setup.options);
    machine::sim::SimGuestMemory* away = nullptr;
    uint32_t which = 0;
    for (int i = 0; i < 20000 && away == nullptr; ++i) {
      host.pump();
      if (i % 10 == 0) host.world.advance(kSecond);
      which = host.vms[0]->memory.away(PageIndex(5)) ? 0 : 1;
      if (host.vms[which]->memory.away(PageIndex(5))) away = &host.vms[which]->memory;
    }
    if (away == nullptr) continue;  // none of its requests was carried out
    const bool restarts = seed % 2 == 0;
    if (restarts) host.restart();
    host.write(which, 5, 43);
    copies += away->present(PageIndex(5)) ? away->private_copies() : 0;
    EXPECT_LE(pages_to_bytes(host.world.frames() + host.pool.frames()) + tables,
              host.ledger->consumed());
    host.audit();
    host.world.stop_faults();
    host.pump_for(kSecond);
    EXPECT_EQ(host.state(which, 5), PageState::kResident);
    EXPECT_EQ(pages_to_bytes(host.world.frames() + host.pool.frames()) + tables,
              host.ledger->consumed());
    host.audit();
    host.check_all();
  }
  EXPECT_GT(copies, 5u);
}

}  // namespace
}  // namespace ballast::engine
