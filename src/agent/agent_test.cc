// The agent against a daemon that the test itself plays, over real userfaultfd.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "agent/agent_test_parts.h"

namespace ballast::agent_test {
namespace {

constexpr uint64_t kMemoryBytes = 4 << 20;

class AgentTest : public testing::Test {
 protected:
  void SetUp() override {
    const long fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) GTEST_SKIP() << "no userfaultfd here: " << strerror(errno);
    close(static_cast<int>(fd));
  }

  // Maps memory I, plays the daemon until its hand-off was accepted.
  HandOff map_and_accept(Toucher& toucher, FakeDaemon& daemon, int memory, int pages) {
    toucher.send("map " + std::to_string(memory) + " " + std::to_string(pages));
    if (!daemon.connected()) daemon.accept_agent();
    HandOff hand_off = daemon.read_hand_off();
    daemon.send_accept();
    EXPECT_EQ(toucher.reply().substr(0, 3), "ok ");
    return hand_off;
  }

  FakeDaemon daemon_;
};

TEST_F(AgentTest, HandsOverInFirecrackersForm) {
  Toucher toucher(daemon_.environment("web\"1", kMemoryBytes));
  toucher.send("map 0 1024");
  daemon_.accept_agent();
  const HandOff hand_off = daemon_.read_hand_off();
  ASSERT_EQ(hand_off.json.size(), 1U);
  const auto& region = hand_off.json[0];
  EXPECT_EQ(region["size"], kMemoryBytes);
  EXPECT_EQ(region["offset"], 0);
  EXPECT_EQ(region["page_size"], 4096);
  EXPECT_EQ(region["page_size_kib"], 4096);
  const auto& identity = region["ballast"];
  EXPECT_EQ(identity["version"], 1);
  EXPECT_EQ(identity["name"], "web\"1");
  EXPECT_EQ(identity["uuid"], "u-1");
  EXPECT_EQ(identity["memory_bytes"], kMemoryBytes);
  EXPECT_EQ(identity["min_bytes"], 1048576);
  EXPECT_EQ(identity["qmp"], "/run/q.sock");
  EXPECT_EQ(identity["ram_fd"], 1);
  EXPECT_FALSE(identity.contains("limit_bytes"));
  EXPECT_FALSE(identity.contains("shares"));
  EXPECT_FALSE(identity.contains("balloon_max_bytes"));
  EXPECT_FALSE(identity.contains("pshare"));
  EXPECT_FALSE(identity.contains("salt"));
  EXPECT_TRUE(identity["kept"].empty());
  ASSERT_EQ(hand_off.fds.size(), 3U);  // userfaultfd, RAM, discards
  daemon_.send_accept();
  const std::string reply = toucher.reply();
  EXPECT_EQ(reply, "ok " + std::to_string(region["base_host_virt_addr"].get<uint64_t>()));
  toucher.send("env LD_PRELOAD");
  EXPECT_EQ(toucher.reply(), "ok ");  // QEMU's children are not to be managed
}

TEST_F(AgentTest, HandsOverTheAllocationThatTheVmHasOfItsOwn) {
  auto environment = daemon_.environment("vm", kMemoryBytes);
  environment["BALLAST_VM_LIMIT"] = "2097152";
  environment["BALLAST_VM_SHARES"] = "high";
  environment["BALLAST_VM_BALLOON_MAX"] = "0";
  environment["BALLAST_VM_PSHARE"] = "0";
  environment["BALLAST_VM_SALT"] = "team \"a\"";
  Toucher toucher(environment);
  const HandOff hand_off = map_and_accept(toucher, daemon_, 0, 1024);
  const auto& identity = hand_off.json[0]["ballast"];
  EXPECT_EQ(identity["limit_bytes"], 2097152);
  EXPECT_EQ(identity["shares"], "high");
  EXPECT_EQ(identity["balloon_max_bytes"], 0);
  EXPECT_EQ(identity["pshare"], false);
  EXPECT_EQ(identity["salt"], "team \"a\"");
  for (const char* name : {"BALLAST_VM_LIMIT", "BALLAST_VM_SALT", "BALLAST_VM_PSHARE"}) {
    toucher.send(std::string("env ") + name);
    EXPECT_EQ(toucher.reply(), "ok ");
  }
}

TEST_F(AgentTest, EmptyVariablesAreUnsetOnes) {
  auto environment = daemon_.environment("vm", kMemoryBytes);
  for (const char* name : {"BALLAST_VM_LIMIT", "BALLAST_VM_SHARES", "BALLAST_VM_BALLOON_MAX",
                           "BALLAST_VM_MIN", "BALLAST_VM_PSHARE", "BALLAST_VM_SALT"}) {
    environment[name] = "";
  }
  Toucher toucher(environment);
  const HandOff hand_off = map_and_accept(toucher, daemon_, 0, 1024);
  const auto& identity = hand_off.json[0]["ballast"];
  EXPECT_EQ(identity["min_bytes"], 0);
  EXPECT_FALSE(identity.contains("limit_bytes"));
  EXPECT_FALSE(identity.contains("shares"));
}

TEST_F(AgentTest, VariablesThatMakeNoSenseEndTheProcess) {
  for (const auto& [name, value] :
       std::map<std::string, std::string>{{"BALLAST_VM_MEMORY", ""},
                                          {"BALLAST_VM_LIMIT", "2M"},
                                          {"BALLAST_VM_BALLOON_MAX", "-1"},
                                          {"BALLAST_VM_PSHARE", "yes"},
                                          {"BALLAST_VM_SALT", std::string(129, 's')},
                                          {"BALLAST_VM_SHARES", "more than enough for all"}}) {
    auto environment = daemon_.environment("vm", kMemoryBytes);
    environment[name] = value;
    Toucher toucher(environment);
    toucher.send("map 0 1024");
    EXPECT_EQ(toucher.wait_exit(), 1) << name;
    EXPECT_NE(toucher.errors().find(name), std::string::npos) << name;
  }
}

TEST_F(AgentTest, EveryFirstTouchComesToTheDaemon) {
  Toucher toucher(daemon_.environment("vm", kMemoryBytes));
  const HandOff hand_off = map_and_accept(toucher, daemon_, 0, 1024);
  const uint64_t base = hand_off.base(0);

  toucher.send("write 0 7 hello");
  Fault fault = hand_off.next_fault();
  EXPECT_EQ(fault.address, base + 7 * 4096);
  EXPECT_FALSE(fault.sealed);
  hand_off.install_zero(fault.address);
  EXPECT_EQ(toucher.reply(), "ok");

  toucher.send("read 0 9");
  fault = hand_off.next_fault();
  EXPECT_EQ(fault.address, base + 9 * 4096);
  hand_off.install(fault.address, "stored");
  EXPECT_EQ(toucher.reply(), "ok stored");

  hand_off.protect(base + 9 * 4096, true);
  toucher.send("write 0 9 new");
  fault = hand_off.next_fault();
  EXPECT_TRUE(fault.sealed);
  hand_off.protect(fault.address, false);
  EXPECT_EQ(toucher.reply(), "ok");
}

TEST_F(AgentTest, RefusalIsPrintedAndEndsTheProcess) {
  Toucher toucher(daemon_.environment("vm", kMemoryBytes));
  toucher.send("map 0 1024");
  daemon_.accept_agent();
  daemon_.read_hand_off();
  daemon_.send_refuse("no room: 512 MB promised");
  EXPECT_EQ(toucher.wait_exit(), 1);
  EXPECT_EQ(toucher.errors(), "ballast: no room: 512 MB promised\n");
}

TEST_F(AgentTest, WithoutDaemonItSaysWhatToStart) {
  auto environment = daemon_.environment("vm", kMemoryBytes);
  daemon_.stop_listening();
  Toucher toucher(environment);
  toucher.send("map 0 1024");
  EXPECT_EQ(toucher.wait_exit(), 1);
  const std::string errors = toucher.errors();
  EXPECT_NE(errors.find(daemon_.path()), std::string::npos) << errors;
  EXPECT_NE(errors.find("start ballastd"), std::string::npos) << errors;
}

TEST_F(AgentTest, MoreRamThanAnnouncedIsRefused) {
  Toucher toucher(daemon_.environment("vm", kMemoryBytes));
  toucher.send("map 0 1025");
  EXPECT_EQ(toucher.wait_exit(), 1);
  EXPECT_NE(toucher.errors().find("4198400 bytes of guest RAM"), std::string::npos);
}

TEST_F(AgentTest, InertWithoutRamOrSocket) {
  Toucher small(daemon_.environment("vm", kMemoryBytes));
  small.send("map 0 16");  // below 1 MiB: not guest RAM
  EXPECT_EQ(small.reply().substr(0, 3), "ok ");
  small.send("threads");
  EXPECT_EQ(small.reply(), "ok 1");
  Toucher without({});
  without.send("map 0 1024");
  EXPECT_EQ(without.reply().substr(0, 3), "ok ");
  without.send("write 0 3 x");
  EXPECT_EQ(without.reply(), "ok");
  EXPECT_FALSE(daemon_.someone_connects(100));
}

TEST_F(AgentTest, DiscardsReachTheBitmap) {
  Toucher toucher(daemon_.environment("vm", kMemoryBytes));
  const HandOff hand_off = map_and_accept(toucher, daemon_, 0, 1024);
  DiscardMap discards(hand_off.fds[2], 1024);
  // 2.5 pages from the middle of page 62: whole pages are 63 and 64 only.
  toucher.send("punch 0 " + std::to_string(62 * 4096 + 2048) + " " +
               std::to_string(4096 * 2 + 2048 + 1024));
  EXPECT_EQ(toucher.reply(), "ok");
  EXPECT_EQ(daemon_.read_header().kind, static_cast<uint32_t>(kAgentDiscards));
  EXPECT_EQ(discards.take(), (std::vector<uint32_t>{63, 64}));
  // Still pending: no second message until the daemon cleared it.
  toucher.send("punch 0 0 4096");
  EXPECT_EQ(toucher.reply(), "ok");
  EXPECT_FALSE(daemon_.readable(50));
  discards.clear_pending();
  EXPECT_EQ(discards.take(), (std::vector<uint32_t>{0}));
  toucher.send("punch 0 4096 4194304");
  EXPECT_EQ(toucher.reply(), "ok");
  EXPECT_EQ(daemon_.read_header().kind, static_cast<uint32_t>(kAgentDiscards));
  EXPECT_EQ(discards.take().size(), 1023U);
}

TEST_F(AgentTest, ReconnectsWithEverythingItKeeps) {
  Toucher toucher(daemon_.environment("vm", kMemoryBytes));
  toucher.send("map 0 1024");
  daemon_.accept_agent();
  HandOff first = daemon_.read_hand_off();
  const int tables = memfd_create("t", MFD_CLOEXEC);
  const int arena = memfd_create("a", MFD_CLOEXEC);
  const int swap = memfd_create("s", MFD_CLOEXEC);
  const int pool = memfd_create("p", MFD_CLOEXEC);
  daemon_.send_accept({tables, arena, swap, pool});
  EXPECT_EQ(toucher.reply().substr(0, 3), "ok ");
  const DiscardMap discards(first.fds[2], 1024);

  for (int round = 0; round < 3; ++round) {
    daemon_.drop_agent();
    first.close_all();
    toucher.send("write 0 " + std::to_string(round) + " x");  // waits in its fault
    if (round == 1) {
      EXPECT_TRUE(daemon_.someone_connects(1000));
      daemon_.accept_agent();  // a daemon that dies before its verdict
      daemon_.read_hand_off();
      daemon_.drop_agent();
    }
    daemon_.accept_agent();
    HandOff again = daemon_.read_hand_off();
    EXPECT_EQ(again.json[0]["ballast"]["kept"],
              nlohmann::json({"tables", "arena", "swap", "pool"}));
    ASSERT_EQ(again.fds.size(), 7U);
    EXPECT_TRUE(same_file(again.fds[3], tables));
    EXPECT_TRUE(same_file(again.fds[4], arena));
    EXPECT_TRUE(same_file(again.fds[5], swap));
    EXPECT_TRUE(same_file(again.fds[6], pool));
    daemon_.send_accept();
    again.wake(again.base(0), kMemoryBytes);
    const Fault fault = again.next_fault();
    again.install_zero(fault.address);
    EXPECT_EQ(toucher.reply(), "ok");
    first = std::move(again);
  }
  EXPECT_EQ(toucher.running(), true);
}

TEST_F(AgentTest, DiscardsWhileNoDaemonListensAreRepeated) {
  Toucher toucher(daemon_.environment("vm", kMemoryBytes));
  const HandOff hand_off = map_and_accept(toucher, daemon_, 0, 1024);
  daemon_.drop_agent();
  toucher.send("punch 0 8192 4096");
  EXPECT_EQ(toucher.reply(), "ok");
  daemon_.accept_agent();
  const HandOff again = daemon_.read_hand_off();
  daemon_.send_accept();
  EXPECT_EQ(daemon_.read_header().kind, static_cast<uint32_t>(kAgentDiscards));
  DiscardMap discards(again.fds[2], 1024);
  EXPECT_EQ(discards.take(), (std::vector<uint32_t>{2}));
}

TEST_F(AgentTest, SampleZapsEntriesAndKeepsBytes) {
  Toucher toucher(daemon_.environment("vm", kMemoryBytes));
  const HandOff hand_off = map_and_accept(toucher, daemon_, 0, 1024);
  const uint64_t base = hand_off.base(0);
  for (int page = 0; page < 4; ++page)
    hand_off.install(base + static_cast<uint64_t>(page) * 4096, "kept");
  for (int page = 0; page < 4; ++page) {
    toucher.send("read 0 " + std::to_string(page));
    EXPECT_EQ(toucher.reply(), "ok kept");
  }
  EXPECT_TRUE(toucher.mapped(base + 4096));
  // Lies are ignored: outside of the region, misaligned, running out of it.
  daemon_.send_sample(
      {{base + 4096, 8192}, {4096, 4096}, {base + 1, 4096}, {base, kMemoryBytes + 4096}});
  EXPECT_TRUE(eventually([&] { return !toucher.mapped(base + 4096); }));
  EXPECT_TRUE(eventually([&] { return !toucher.mapped(base + 8192); }));
  EXPECT_TRUE(toucher.mapped(base));
  EXPECT_TRUE(toucher.mapped(base + 3 * 4096));
  toucher.send("read 0 1");
  EXPECT_EQ(toucher.reply(), "ok kept");
  EXPECT_FALSE(hand_off.has_fault(20));  // no event for a page that is in its file
  EXPECT_TRUE(toucher.mapped(base + 4096));
}

TEST_F(AgentTest, LaterRegionsRepeatTheWholeArray) {
  Toucher toucher(daemon_.environment("vm", kMemoryBytes));
  map_and_accept(toucher, daemon_, 0, 512);
  const HandOff both = map_and_accept(toucher, daemon_, 1, 256);
  ASSERT_EQ(both.json.size(), 2U);
  ASSERT_EQ(both.fds.size(), 4U);
  EXPECT_EQ(both.json[1]["size"], 1 << 20);
  EXPECT_EQ(both.json[1]["ballast"], nlohmann::json({{"ram_fd", 2}}));
  DiscardMap discards(both.fds[3], 1024);
  toucher.send("punch 1 4096 4096");
  EXPECT_EQ(toucher.reply(), "ok");
  EXPECT_EQ(daemon_.read_header().kind, static_cast<uint32_t>(kAgentDiscards));
  EXPECT_EQ(discards.take(), (std::vector<uint32_t>{513}));
  toucher.send("write 1 5 second");
  const Fault fault = both.next_fault();
  EXPECT_EQ(fault.address, both.base(1) + 5 * 4096);
  both.install_zero(fault.address);
  EXPECT_EQ(toucher.reply(), "ok");

  toucher.send("map 2 256");  // refused: QEMU gets ENOMEM and goes on
  daemon_.read_hand_off();
  daemon_.send_refuse("no third one");
  EXPECT_EQ(toucher.reply(), "error " + std::to_string(ENOMEM));
  toucher.send("map 3 512");  // more than announced: never leaves the agent
  EXPECT_EQ(toucher.reply(), "error " + std::to_string(ENOMEM));
  toucher.send("again 0");
  EXPECT_EQ(toucher.reply(), "error " + std::to_string(ENOMEM));
  daemon_.drop_agent();
  daemon_.accept_agent();
  EXPECT_EQ(daemon_.read_hand_off().json.size(), 2U);
  daemon_.send_accept();
}

TEST_F(AgentTest, RegionAnnouncedWhileTheDaemonRestarts) {
  Toucher toucher(daemon_.environment("vm", kMemoryBytes));
  map_and_accept(toucher, daemon_, 0, 512);
  toucher.send("map 1 256");
  daemon_.read_hand_off();
  daemon_.drop_agent();
  daemon_.accept_agent();
  EXPECT_EQ(daemon_.read_hand_off().json.size(), 2U);
  daemon_.send_accept();
  EXPECT_EQ(toucher.reply().substr(0, 3), "ok ");
}

TEST_F(AgentTest, ForkedChildHasNoPartInIt) {
  Toucher toucher(daemon_.environment("vm", kMemoryBytes));
  const HandOff hand_off = map_and_accept(toucher, daemon_, 0, 1024);
  toucher.send("fork");
  EXPECT_EQ(toucher.reply(), "ok 0");
  EXPECT_FALSE(daemon_.readable(50));
  toucher.send("punch 0 0 4096");
  EXPECT_EQ(toucher.reply(), "ok");
  EXPECT_EQ(daemon_.read_header().kind, static_cast<uint32_t>(kAgentDiscards));
}

TEST_F(AgentTest, NonsenseFromTheDaemonMeansReconnecting) {
  Toucher toucher(daemon_.environment("vm", kMemoryBytes));
  map_and_accept(toucher, daemon_, 0, 1024);
  daemon_.send_bytes("this is not a message of ours, and long enough");
  daemon_.accept_agent();
  EXPECT_EQ(daemon_.read_hand_off().json.size(), 1U);
  daemon_.send_accept();
  daemon_.send_header({kAgentMagic, kAgentSample, 5000, 5000 * 16});
  daemon_.accept_agent();
  daemon_.read_hand_off();
  daemon_.send_accept();
  EXPECT_TRUE(toucher.running());
}

}  // namespace
}  // namespace ballast::agent_test
