// The simulator's own promises: repeatable, and its judges notice a broken machine.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "simulator/content.h"
#include "simulator/oracle.h"
#include "simulator/simulation.h"

namespace ballast::simulator {
namespace {

struct Outcome {
  int code = -1;
  std::string output;
};

Outcome run(const std::string& arguments) {
  const std::string command = std::string(BALLAST_SIM) + " " + arguments + " 2>&1";
  Outcome outcome;
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return outcome;
  std::array<char, 4096> buffer{};
  while (std::fgets(buffer.data(), static_cast<int>(buffer.size()), pipe) != nullptr) {
    outcome.output += buffer.data();
  }
  const int status = pclose(pipe);
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return outcome;
}

TEST(Simulator, SameSeedSameTrace) {
  for (const char* seed : {"2", "5", "1007"}) {
    const Outcome first = run(std::string("--accesses 20000 --seed ") + seed);
    const Outcome again = run(std::string("--accesses 20000 --seed ") + seed);
    EXPECT_EQ(first.code, 0) << first.output;
    EXPECT_NE(first.output.find("hash"), std::string::npos);
    EXPECT_EQ(first.output, again.output);
  }
}

// Each canary must be caught within some seeds, by the judge in charge.
void expect_caught(const std::string& canary, const std::string& verdict) {
  const Outcome outcome = run("--canary " + canary + " --limit 15 --accesses 30000 --seeds 1..30");
  EXPECT_NE(outcome.code, 0) << outcome.output;
  EXPECT_NE(outcome.output.find(verdict), std::string::npos) << outcome.output;
}
TEST(Canary, LeakySealIsWrongData) { expect_caught("seal", "wrong data"); }
TEST(Canary, StaleSlotIsAFreezeThatNothingExcuses) { expect_caught("slot", "wrong data"); }
TEST(Canary, LostWakeIsNoProgress) { expect_caught("wake", "no progress"); }
TEST(Canary, DirtyFrameIsWrongData) { expect_caught("frame", "wrong data"); }
TEST(Canary, SharedWriteIsWrongData) { expect_caught("share", "wrong data"); }
TEST(Canary, FlippedArenaIsNoticed) { expect_caught("arena", "failed:"); }

TEST(Seeds, ThoseThatOnceFailedPass) {
  std::ifstream file(BALLAST_SEEDS);
  ASSERT_TRUE(file) << BALLAST_SEEDS;
  int seeds = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    uint64_t seed = 0;
    uint64_t accesses = 0;
    std::istringstream(line) >> seed >> accesses;
    const Outcome outcome =
        run("--seed " + std::to_string(seed) + " --accesses " + std::to_string(accesses));
    EXPECT_EQ(outcome.code, 0) << line << "\n" << outcome.output;
    ++seeds;
  }
  EXPECT_GT(seeds, 0);
}

TEST(Program, RefusesNonsense) {
  EXPECT_NE(run("--seeds 9..3").code, 0);
  EXPECT_NE(run("--canary parrot").code, 0);
}

TEST(Content, EveryKindHoldsWhatWasWrittenAndNothingElse) {
  std::array<std::byte, kHalfBytes> bytes{};
  for (uint32_t kind = 0; kind < kKinds; ++kind) {
    const Content content{static_cast<Kind>(kind), 7};
    write_half(Half(bytes), {1, 20}, content);
    EXPECT_TRUE(holds(ConstHalf(bytes), {1, 20}, content));
    if (kind == 0) continue;
    EXPECT_FALSE(holds(ConstHalf(bytes), {2, 20}, content));
    EXPECT_FALSE(holds(ConstHalf(bytes), {1, 20}, {content.kind, 6}));
    bytes[kHalfBytes - 1] ^= std::byte{1};
    EXPECT_FALSE(holds(ConstHalf(bytes), {1, 20}, content));
  }
}

// One VM that is busy in its first half, can do without a part of that, and has an obedient
// balloon.
Scenario balloon_scenario() {
  Scenario scenario;
  scenario.budget_bytes = 24ull << 20;
  VmPlan vm;
  vm.pages = 4096;
  vm.used_pages = 2048;
  vm.spare = 500;
  vm.vcpus = 2;
  vm.workload = {.random = 1000, .boot_storm = true};
  vm.balloon.free_rate = vm.balloon.reclaim_rate = vm.balloon.return_rate = 1ull << 30;
  vm.memory.page_count = vm.pages;
  vm.swap.slot_count = vm.pages;
  scenario.vms.push_back(vm);
  scenario.balance_every_ms = 1'000'000;  // the policy's own wishes stay out of it
  return scenario;
}

TEST(BalloonedGuest, GivesUpWhatItCanSpareAndTakesItBack) {
  Simulation simulation(balloon_scenario());
  simulation.start();
  SimVm& vm = *simulation.vms()[0];
  vm.guest.count_errors();
  const auto run = [&](auto&& done) {
    for (int i = 0; i < 300000 && !done(); ++i) simulation.round();
    return done();
  };
  const auto ballooned = [&] { return vm.pager->report().ballooned_bytes; };
  const auto rounds = [&](int count) {
    for (int i = 0; i < count; ++i) simulation.round();
  };
  ASSERT_TRUE(run([&] { return vm.guest.accesses() > 8000; }));
  EXPECT_EQ(vm.guest.memory().free_bytes, pages_to_bytes(2048));
  EXPECT_EQ(vm.guest.memory().available_bytes, pages_to_bytes(2048 + 1024));

  // More than is free: pages with contents go too, and the engine knows each.
  vm.balloon.request(pages_to_bytes(4096 - 2560));
  EXPECT_TRUE(run([&] { return ballooned() == pages_to_bytes(2560); }));
  EXPECT_EQ(vm.balloon.size_bytes(), pages_to_bytes(2560));
  EXPECT_EQ(vm.guest.memory().available_bytes, pages_to_bytes(512));
  // Nobody touches them while they are in the balloon.
  const uint64_t before = vm.guest.accesses();
  rounds(5000);
  EXPECT_GT(vm.guest.accesses(), before + 5000);
  EXPECT_EQ(ballooned(), pages_to_bytes(2560));
  // Not more than it can spare.
  vm.balloon.request(0);
  rounds(20000);
  EXPECT_EQ(vm.balloon.size_bytes(), pages_to_bytes(3072));
  EXPECT_EQ(vm.guest.memory().available_bytes, 0u);

  vm.balloon.request(pages_to_bytes(4096));
  EXPECT_TRUE(run([&] { return vm.balloon.size_bytes() == 0; }));
  // The workload uses what is its own again; the rest stays given up.
  EXPECT_TRUE(run([&] { return ballooned() == pages_to_bytes(2048); }));
  vm.balloon.request(pages_to_bytes(3000));
  EXPECT_TRUE(run([&] { return vm.balloon.size_bytes() > 0; }));
  vm.balloon.reset();
  EXPECT_EQ(vm.guest.memory().available_bytes, pages_to_bytes(2048 + 1024));
  rounds(5000);
  EXPECT_GT(vm.guest.verified_pages(), 0u);
  EXPECT_EQ(vm.guest.checksum_errors(), 0u);
}

class OracleTest : public testing::Test {
 protected:
  std::string judge() { return oracle_.judge(3, page_); }
  void write(uint32_t vm, uint32_t half, Content content) {
    write_half(Half(page_.data() + half % 2 * kHalfBytes, kHalfBytes), {vm, half}, content);
  }
  Oracle oracle_{1, 8};
  std::array<std::byte, kPageBytes> page_{};
};

TEST_F(OracleTest, FindsLostStaleAndForeignPages) {
  EXPECT_EQ(judge(), "");
  const Content first = oracle_.next_write(6, Kind::kText);
  EXPECT_NE(judge(), "") << "zeros where something was written";
  write(1, 6, first);
  EXPECT_EQ(judge(), "");
  const Content second = oracle_.next_write(6, Kind::kText);
  EXPECT_NE(judge(), "") << "an older version";
  write(2, 6, second);
  EXPECT_NE(judge(), "") << "another VM's page";
}

TEST_F(OracleTest, TheImageIsTheSameForAllButOnlyInItsPlaceAndVersion) {
  const Content common = oracle_.next_write(6, Kind::kCommon, 2);
  EXPECT_NE(judge(), "");
  write(1, 6, common);
  EXPECT_EQ(judge(), "");
  write(1, 6, {Kind::kCommon, 1});
  EXPECT_NE(judge(), "") << "another version";
  write(1, 8, common);
  EXPECT_NE(judge(), "") << "another place";
  // VM 2 has the same contents some pages earlier.
  ASSERT_EQ(image_page(1, 8), image_page(2, 3));
  write(2, 6, common);
  const auto of_two = page_;
  write(1, 16, common);
  EXPECT_EQ(page_, of_two);
  // Given up, it may be what it was, but not what it never was.
  write(1, 6, common);
  oracle_.discard_begins(3);
  oracle_.discard_ends(3);
  EXPECT_EQ(judge(), "");
  write(1, 6, {Kind::kCommon, 1});
  EXPECT_NE(judge(), "");
}

TEST_F(OracleTest, ADiscardedPageMayBeZerosOrOlderButNeverForeign) {
  const Content first = oracle_.next_write(6, Kind::kNoise);
  (void)oracle_.next_write(6, Kind::kNoise);
  oracle_.discard_begins(3);
  oracle_.discard_ends(3);
  EXPECT_EQ(judge(), "");
  write(1, 6, first);
  EXPECT_EQ(judge(), "");
  write(2, 6, first);
  EXPECT_NE(judge(), "");
  const Content third = oracle_.next_write(6, Kind::kNoise);
  write(1, 6, first);
  EXPECT_NE(judge(), "") << "written again: only the newest counts";
  write(1, 6, third);
  EXPECT_EQ(judge(), "");
}

}  // namespace
}  // namespace ballast::simulator
