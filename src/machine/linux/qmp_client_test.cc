// A monitor that behaves, hangs, floods, lies, comes and goes; on a clock of the test's.
#include "machine/linux/qmp_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "machine/linux/test_monitor.h"

namespace ballast::linux_machine {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

class QmpClientTest : public testing::Test, public QmpClient::Listener {
 protected:
  void on_ready() override { ++ready_; }
  void on_failure() override { ++failures_; }
  void on_event(const std::string& name, const json& data) override {
    events_.push_back(name + (data.is_null() ? "" : data.dump()));
    if (hang_up_at_event_) client_.hang_up("enough");
  }

  void step(Nanoseconds span = kMillisecond) {
    now_ += span;
    turn(client_, now_);
  }
  void connect() {
    step();
    ASSERT_TRUE(monitor_.accept());
    monitor_.greet();
    step();
    step();
    const auto negotiation = monitor_.command();
    ASSERT_TRUE(negotiation);
    ASSERT_EQ((*negotiation)["execute"], "qmp_capabilities");
    monitor_.answer(*negotiation, json::object());
    step();
    ASSERT_EQ(client_.state(), QmpClient::State::kReady);
  }
  // The command as it arrives; its reply goes to replies_.
  json execute(const std::string& command) {
    client_.execute(command, {{"value", 5}}, [this](const QmpReply& reply) {
      replies_.push_back(reply.ok() ? reply.value.dump() : reply.error_class + ": " + reply.error);
    });
    step();
    return monitor_.command().value_or(json());
  }
  // What must have ended the connection.
  void expect_hung_up(const std::string& why) {
    EXPECT_EQ(client_.state(), QmpClient::State::kApart);
    EXPECT_THAT(client_.problem(), HasSubstr(why));
    EXPECT_THAT(client_.problem(), HasSubstr(monitor_.path()));
    EXPECT_EQ(failures_, 1);
    EXPECT_EQ(client_.fd(), -1);
    EXPECT_EQ(client_.wake_at(), now_ + QmpClient::kRetryMin);
  }

  Nanoseconds now_ = 100 * kSecond;
  TestMonitor monitor_;
  QmpClient client_{monitor_.path(), getpid(), *this};
  bool hang_up_at_event_ = false;
  int ready_ = 0;
  int failures_ = 0;
  std::vector<std::string> events_;
  std::vector<std::string> replies_;
};

TEST_F(QmpClientTest, NegotiatesThenExecutesOneByOne) {
  EXPECT_EQ(client_.wake_at(), 0u);  // it wants to connect at once
  connect();
  EXPECT_EQ(ready_, 1);
  EXPECT_EQ(client_.problem(), "");
  const json command = execute("balloon");
  EXPECT_EQ(command["execute"], "balloon");
  EXPECT_EQ(command["arguments"], (json{{"value", 5}}));
  EXPECT_FALSE(client_.can_execute());
  // An event may come between a command and its reply.
  monitor_.event("BALLOON_CHANGE", {{"actual", 7}});
  monitor_.answer(command, {{"actual", 9}});
  step();
  EXPECT_THAT(events_, ElementsAre(R"(BALLOON_CHANGE{"actual":7})"));
  EXPECT_THAT(replies_, ElementsAre(R"({"actual":9})"));
  monitor_.refuse(execute("frobnicate"), "CommandNotFound", "no such\ncommand");
  step();
  EXPECT_EQ(replies_.back(), "CommandNotFound: no such?command");
  EXPECT_EQ(failures_, 0);
}

TEST_F(QmpClientTest, TakesRepliesInPieces) {
  connect();
  const json command = execute("query");
  const std::string text = json{{"return", "long"}, {"id", command["id"]}}.dump() + "\r\n";
  for (const char c : text) {
    monitor_.send({&c, 1});
    step(2 * kMillisecond);
  }
  EXPECT_THAT(replies_, ElementsAre("\"long\""));
}

TEST_F(QmpClientTest, WaitsForTheSocketToAppear) {
  monitor_.go_away();
  step();
  expect_hung_up("No such file or directory");
  monitor_.open();
  step(QmpClient::kRetryMin);
  EXPECT_EQ(client_.state(), QmpClient::State::kGreeting);
}

TEST_F(QmpClientTest, HangsUpWithoutGreeting) {
  step();
  ASSERT_TRUE(monitor_.accept());
  step(QmpClient::kPatience - kMillisecond);
  EXPECT_EQ(client_.state(), QmpClient::State::kGreeting);
  EXPECT_EQ(client_.wake_at(), now_ + kMillisecond);
  step();
  expect_hung_up("no greeting within 5 s");
  EXPECT_TRUE(monitor_.is_hung_up());
}

TEST_F(QmpClientTest, HangsUpWithoutReply) {
  connect();
  execute("balloon");
  step(QmpClient::kPatience);
  expect_hung_up("no reply within 5 s");
  // The late reply is not taken for that of the next connection's command.
  EXPECT_THAT(replies_, testing::IsEmpty());
}

TEST_F(QmpClientTest, ReplyThatWaitedForUsIsInTime) {
  connect();
  monitor_.answer(execute("balloon"), 1);
  step(2 * QmpClient::kPatience);  // it was we who did not look
  EXPECT_THAT(replies_, ElementsAre("1"));
}

TEST_F(QmpClientTest, NoticesThatQemuLeftInTheMiddleOfALine) {
  connect();
  execute("balloon");
  monitor_.send(R"({"return": {"act)");
  monitor_.hang_up();
  step();  // the piece
  step();  // the end
  expect_hung_up("QEMU closed the connection");
  EXPECT_FALSE(client_.can_execute());
}

TEST_F(QmpClientTest, ComesBackWhenTheServerDoes) {
  connect();
  monitor_.go_away();
  step();
  ASSERT_EQ(failures_, 1);
  // Twice as long each time.
  for (const unsigned pause : {1u, 2u, 4u, 8u, 16u, 30u, 30u}) {
    const int before = failures_;
    step(pause * kSecond - kMillisecond);
    EXPECT_EQ(failures_, before) << pause;
    step();
    EXPECT_EQ(failures_, before + 1) << pause;
  }
  monitor_.open();
  step(QmpClient::kRetryMax);
  connect();
  EXPECT_EQ(ready_, 2);
  // Short connections do not shorten the pause, lasting ones do.
  monitor_.hang_up();
  step();
  EXPECT_EQ(client_.wake_at(), now_ + QmpClient::kRetryMax);
  step(QmpClient::kRetryMax);
  connect();
  step(QmpClient::kRetryMax);
  monitor_.hang_up();
  step();
  EXPECT_EQ(client_.wake_at(), now_ + QmpClient::kRetryMin);
}

TEST_F(QmpClientTest, SpeaksToTheRightProcessOnly) {
  QmpClient other(monitor_.path(), getpid() + 1, *this);
  other.tick(now_);
  EXPECT_EQ(other.state(), QmpClient::State::kApart);
  EXPECT_THAT(other.problem(),
              HasSubstr(fmt::format("process {} listens there, not the VM's process {}", getpid(),
                                    getpid() + 1)));
  QmpClient any(monitor_.path(), 0, *this);
  any.tick(now_);
  EXPECT_EQ(any.state(), QmpClient::State::kGreeting);
}

TEST_F(QmpClientTest, ReportsAQueueOfOtherClients) {
  std::vector<std::unique_ptr<QmpClient>> clients;
  for (int i = 0; i < 5; ++i) {
    clients.push_back(std::make_unique<QmpClient>(monitor_.path(), 0, *this));
    clients.back()->tick(now_);
  }
  EXPECT_THAT(clients.back()->problem(), HasSubstr("too many clients wait for it"));
}

TEST_F(QmpClientTest, PathThatCannotBeASocket) {
  QmpClient client("/" + std::string(200, 'x'), 0, *this);
  client.tick(now_);
  EXPECT_THAT(client.problem(), HasSubstr("cannot name a socket"));
}

TEST_F(QmpClientTest, ReadsAFloodWithinItsBudget) {
  connect();
  std::string flood;
  while (flood.size() < QmpClient::kWindowBytes) flood += "{\"event\":\"NOISE\"}\r\n";
  size_t sent = 0;
  // For a second, and nobody sleeps: as many turns as there may be.
  for (int i = 0; i < 10000; ++i) {
    // Whole lines, as an honest but noisy QEMU would send them.
    const size_t line = flood.find('\n') + 1;
    sent += monitor_.send(std::string_view(flood).substr(0, line * 100));
    if (client_.state() != QmpClient::State::kReady) break;
    step(100 * kMicrosecond);
    if (client_.fd() < 0) {
      EXPECT_GT(client_.wake_at(), now_);
      EXPECT_LE(client_.wake_at(), now_ + QmpClient::kWindow);
    }
  }
  const size_t read = events_.size() * (sizeof("{\"event\":\"NOISE\"}\r\n") - 1);
  EXPECT_GT(sent, QmpClient::kWindowBytes);
  EXPECT_GT(read, QmpClient::kWindowBytes);
  EXPECT_LE(read, 11 * QmpClient::kWindowBytes);
  EXPECT_EQ(failures_, 0);
}

TEST_F(QmpClientTest, BoundsTheReadsOfADribble) {
  connect();
  int reads = 0;
  for (int i = 0; i < 10000; ++i) {
    monitor_.send(" ");
    const int fd = client_.fd();
    step(10 * kMicrosecond);
    reads += fd >= 0 ? 1 : 0;
  }
  EXPECT_LE(reads, 2 * 64 + 2);
}

TEST_F(QmpClientTest, AnswersAfterAFlood) {
  connect();
  const json command = execute("balloon");
  std::string flood;
  while (flood.size() < 3 * QmpClient::kWindowBytes) flood += "{\"event\":\"NOISE\"}\r\n";
  for (size_t sent = 0; sent < flood.size(); step(50 * kMillisecond)) {
    sent += monitor_.send(std::string_view(flood).substr(sent));
  }
  for (int i = 0; i < 20; ++i) step(50 * kMillisecond);
  monitor_.answer(command, 1);
  for (int i = 0; i < 20; ++i) step(50 * kMillisecond);
  EXPECT_THAT(replies_, ElementsAre("1"));
}

TEST_F(QmpClientTest, HangsUpOnALineWithoutEnd) {
  connect();
  const std::string part(QmpClient::kLineBytes / 4, '[');
  for (int i = 0; i < 8 && failures_ == 0; ++i) {
    monitor_.send(part);
    step(QmpClient::kWindow);
  }
  expect_hung_up("a line of more than 65536 bytes");
}

TEST_F(QmpClientTest, ToleratesAFewLinesOfGarbage) {
  connect();
  const json command = execute("balloon");
  const std::string id = command["id"].dump();
  const std::vector<std::string> garbage = {
      "no JSON",
      "[1, 2]",
      "\xff\xfe",
      "",
      R"({"return": 1})",                      // whose?
      R"({"return": 1, "id": "1"})",           // not a name of ours
      R"({"return": 1, "id": 99999})",         // nor this one
      R"({"error": "no", "id": )" + id + "}",  // neither an answer nor an error
      R"({"event": 17})",
  };
  for (const std::string& line : garbage) {
    monitor_.send(line + "\r\n");
    step();
    EXPECT_EQ(failures_, 0) << line;
    EXPECT_THAT(replies_, testing::IsEmpty()) << line;
  }
  monitor_.answer(command, 1);
  step();
  EXPECT_THAT(replies_, ElementsAre("1"));
  monitor_.send("one more\r\n");
  step();
  expect_hung_up("10 lines that are not QMP");
}

TEST_F(QmpClientTest, DeepNestingIsGarbage) {
  connect();
  const auto nested = [](int depth) {
    return R"({"event":"E","data":)" + std::string(static_cast<size_t>(depth), '[') +
           std::string(static_cast<size_t>(depth), ']') + "}\r\n";
  };
  monitor_.send(nested(QmpClient::kDepth));
  step();
  EXPECT_EQ(events_.size(), 1u);
  for (int i = 0; i < QmpClient::kGarbageLines; ++i) {
    monitor_.send(nested(5000));
    step(QmpClient::kWindow);
  }
  EXPECT_EQ(events_.size(), 1u);
  expect_hung_up("lines that are not QMP");
}

TEST_F(QmpClientTest, GreetingMustComeFirst) {
  step();
  ASSERT_TRUE(monitor_.accept());
  for (int i = 0; i < QmpClient::kGarbageLines; ++i) monitor_.event("RESUME");
  step();
  expect_hung_up("lines that are not QMP");
  EXPECT_THAT(events_, testing::IsEmpty());
}

TEST_F(QmpClientTest, RefusedNegotiation) {
  step();
  ASSERT_TRUE(monitor_.accept());
  monitor_.greet();
  step();
  step();
  monitor_.refuse(*monitor_.command(), "GenericError", "not you");
  step();
  expect_hung_up("QEMU refuses to negotiate: not you");
  EXPECT_EQ(ready_, 0);
}

TEST_F(QmpClientTest, ListenerMayHangUpInTheMiddle) {
  connect();
  const json command = execute("balloon");
  hang_up_at_event_ = true;
  monitor_.event("NOISE");
  monitor_.answer(command, 1);
  monitor_.event("NOISE");
  step();
  EXPECT_EQ(events_.size(), 1u);
  EXPECT_THAT(replies_, testing::IsEmpty());
  expect_hung_up("enough");
}

}  // namespace
}  // namespace ballast::linux_machine
