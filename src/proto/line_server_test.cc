#include "proto/line_server.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "base/random.h"
#include "proto/test_socket.h"

namespace ballast::proto {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class LineServerTest : public ::testing::Test {
 protected:
  void start(LineServerLimits limits = {}) {
    auto server = LineServer::listen(path_, limits);
    ASSERT_TRUE(server) << server.error().message;
    server_ = *std::move(server);
  }
  // Turns until nothing more happens.
  void turn(Nanoseconds now = 0) {
    for (int i = 0; i < 500; ++i) {
      std::vector<pollfd> polled;
      server_->add_pollfds(polled);
      const int timeout = server_->timeout_ms(now);
      const int found = poll(polled.data(), polled.size(), timeout == 0 ? 0 : 1);
      server_->handle(polled, handler_, now);
      if (found == 0 && timeout != 0) return;
    }
    FAIL() << "the server's loop does not come to rest";
  }

  TestDirectory directory_;
  const std::string path_ = directory_.path() + "/control.sock";
  std::unique_ptr<LineServer> server_;
  LineServer::Handler handler_ = [](const json& request, const Peer&) {
    return json{{"echo", request}};
  };
};

TEST_F(LineServerTest, AnswersEachLineInOrder) {
  start();
  TestClient client(path_);
  client.send("1\n2\n");
  client.send("{\"a\"");
  turn();
  EXPECT_EQ(client.take(), "{\"echo\":1}\n{\"echo\":2}\n");
  client.send(":3}\n");
  turn();
  EXPECT_EQ(client.take(), "{\"echo\":{\"a\":3}}\n");
  EXPECT_FALSE(client.is_closed());
}

TEST_F(LineServerTest, TheHandlerLearnsWhoAsks) {
  start();
  handler_ = [](const json&, const Peer& peer) { return json(peer.uid); };
  TestClient client(path_);
  client.send("1\n");
  turn();
  EXPECT_EQ(client.take(), std::to_string(getuid()) + "\n");
}

TEST_F(LineServerTest, ManyLinesAtOnceAreAllAnswered) {
  start();
  TestClient client(path_);
  std::string lines;
  for (int i = 0; i < 1000; ++i) lines += "7\n";
  client.send(lines);
  std::string answers;
  // The kernel holds a few hundred short answers; the rest comes as they are taken.
  for (int i = 0; i < 20; ++i) {
    turn();
    answers += client.take();
  }
  EXPECT_EQ(std::count(answers.begin(), answers.end(), '\n'), 1000);
}

TEST_F(LineServerTest, ManyClientsAtOnce) {
  start();
  std::vector<std::unique_ptr<TestClient>> clients;
  clients.reserve(20);
  for (int i = 0; i < 20; ++i) clients.push_back(std::make_unique<TestClient>(path_));
  for (int i = 0; i < 20; ++i) clients[static_cast<size_t>(i)]->send(fmt::format("{}\n", i));
  turn();
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(clients[static_cast<size_t>(i)]->take(), fmt::format("{{\"echo\":{}}}\n", i));
  }
  clients.clear();
  turn();
  EXPECT_EQ(server_->clients(), 0u);
}

TEST_F(LineServerTest, GarbageGetsOneErrorAndIsClosed) {
  start();
  for (const std::string& garbage :
       {std::string("GET / HTTP/1.1\r\n\r\n"), std::string("\n"), std::string(100, '\0') + "\n",
        std::string("\xff\xfe\xfd\n"), std::string("{\"op\":\"ls\"\n"), std::string("{} {}\n")}) {
    TestClient client(path_);
    client.send(garbage + "1\n1\n");
    turn();
    const std::string reply = client.take();
    EXPECT_THAT(reply, HasSubstr("\"ok\":false")) << garbage;
    EXPECT_THAT(reply, HasSubstr("not JSON")) << garbage;
    EXPECT_EQ(std::count(reply.begin(), reply.end(), '\n'), 1) << garbage;
    EXPECT_TRUE(client.is_closed());
  }
  turn();
  EXPECT_EQ(server_->clients(), 0u);
}

TEST_F(LineServerTest, LineTooLongIsRefusedBeforeItEnds) {
  start({.line_bytes = 1000});
  TestClient client(path_);
  client.send(std::string(1001, '1'));
  turn();
  EXPECT_THAT(client.take(), HasSubstr("longer than 1000 bytes"));
  EXPECT_TRUE(client.is_closed());
  TestClient fits(path_);
  fits.send('"' + std::string(998, 'x') + "\"\n");
  turn();
  EXPECT_THAT(fits.take(), HasSubstr("echo"));
}

TEST_F(LineServerTest, DeepNestingIsNoStackOverflow) {
  start();
  handler_ = [](const json& request, const Peer&) { return json{{"array", request.is_array()}}; };
  TestClient client(path_);
  client.send(std::string(30000, '[') + std::string(30000, ']') + "\n");
  turn();
  EXPECT_EQ(client.take(), "{\"array\":true}\n");
  TestClient unbalanced(path_);
  unbalanced.send(std::string(60000, '[') + "\n");
  turn();
  EXPECT_THAT(unbalanced.take(), HasSubstr("not JSON"));
}

TEST_F(LineServerTest, TruncatedLineIsAnsweredAndClosed) {
  start();
  TestClient client(path_);
  client.send("{\"op\":");
  client.finish_sending();
  turn();
  EXPECT_THAT(client.take(), HasSubstr("cut off"));
  turn();
  EXPECT_EQ(server_->clients(), 0u);
}

TEST_F(LineServerTest, AnswersBeforeItHangsUp) {
  start();
  TestClient client(path_);
  client.send("1\n2\n3\n");
  client.finish_sending();
  turn();
  EXPECT_EQ(client.take(), "{\"echo\":1}\n{\"echo\":2}\n{\"echo\":3}\n");
  EXPECT_EQ(server_->clients(), 0u);
}

TEST_F(LineServerTest, ClientTooManyIsToldSo) {
  start({.clients = 2});
  TestClient one(path_), two(path_);
  turn();
  TestClient three(path_);
  turn();
  EXPECT_THAT(three.take(), HasSubstr("too many clients"));
  EXPECT_TRUE(three.is_closed());
  one.send("1\n");
  turn();
  EXPECT_EQ(one.take(), "{\"echo\":1}\n");
}

TEST_F(LineServerTest, IdleClientIsClosedAndActiveOneIsNot) {
  start({.idle = 10 * kSecond});
  TestClient idle(path_), active(path_);
  turn(0);
  EXPECT_EQ(server_->timeout_ms(0), 10000);
  active.send("1\n");
  turn(6 * kSecond);
  EXPECT_EQ(server_->timeout_ms(6 * kSecond), 4000);
  turn(10 * kSecond);
  EXPECT_TRUE(idle.is_closed());
  EXPECT_EQ(server_->clients(), 1u);
  EXPECT_EQ(server_->timeout_ms(10 * kSecond), 6000);
}

TEST_F(LineServerTest, GarbageThatNeverEndsIsCutOff) {
  start({.idle = 10 * kSecond});
  TestClient client(path_);
  client.send("garbage\n");
  turn(0);
  client.send(std::string(100000, 'x'));
  turn(kSecond);
  EXPECT_EQ(server_->clients(), 1u);
  client.send("more");
  turn(3 * kSecond);
  EXPECT_EQ(server_->clients(), 0u);
}

TEST_F(LineServerTest, UnreadAnswersStopTheReadingAndTheMemory) {
  start();
  int served = 0;
  handler_ = [&](const json&, const Peer&) {
    ++served;
    return json(std::string(size_t{1} << 20, 'x'));
  };
  TestClient client(path_);
  for (int i = 0; i < 100; ++i) client.send("1\n");
  turn();
  EXPECT_LT(served, 3);
  size_t received = 0;
  for (int i = 0; i < 100000 && served < 100; ++i) {
    received += client.take().size();
    turn();
  }
  received += client.take().size();
  EXPECT_EQ(served, 100);
  EXPECT_GT(received, size_t{98} << 20);
}

TEST_F(LineServerTest, AnswerTooLongBecomesAnError) {
  start({.answer_bytes = 1000});
  handler_ = [](const json&, const Peer&) { return json(std::string(1000, 'x')); };
  TestClient client(path_);
  client.send("1\n");
  turn();
  EXPECT_THAT(client.take(), HasSubstr("more than the 1000"));
  EXPECT_FALSE(client.is_closed());
}

TEST_F(LineServerTest, HandlerThatThrowsIsAnInternalError) {
  start();
  handler_ = [](const json&, const Peer&) -> json { throw std::runtime_error("oops"); };
  TestClient client(path_);
  client.send("1\n");
  turn();
  EXPECT_THAT(client.take(), HasSubstr("internal error: oops"));
}

TEST_F(LineServerTest, ClientThatVanishesLeavesNothing) {
  start();
  handler_ = [](const json&, const Peer&) { return json(std::string(size_t{4} << 20, 'x')); };
  {
    TestClient client(path_);
    client.send("1\n1\n");
    turn();
  }
  turn();
  EXPECT_EQ(server_->clients(), 0u);
}

TEST_F(LineServerTest, RandomBytesInRandomPieces) {
  start({.clients = 4, .line_bytes = 300, .answer_bytes = 5000});
  Random random(2024);
  const std::string_view alphabet = "{}[]\":,01ae\\u\n\n \x80";
  for (int round = 0; round < 300; ++round) {
    TestClient client(path_);
    for (uint32_t piece = random.below(6); piece > 0; --piece) {
      std::string bytes;
      for (uint32_t i = random.below(200); i > 0; --i) {
        bytes += alphabet[random.below(static_cast<uint32_t>(alphabet.size()))];
      }
      client.send(bytes);
      if (random.chance(300)) turn();
    }
    if (random.chance(500)) client.finish_sending();
    turn();
  }
  turn();
  EXPECT_EQ(server_->clients(), 0u);
}

TEST_F(LineServerTest, SocketIsForOwnerAndGroupWhateverTheUmask) {
  for (const mode_t mask : {mode_t{0}, mode_t{077}}) {
    const mode_t before = umask(mask);
    start();
    umask(before);
    struct stat info {};
    ASSERT_EQ(stat(path_.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0660u);
    server_.reset();
    EXPECT_NE(stat(path_.c_str(), &info), 0) << "removed at the end";
  }
}

TEST_F(LineServerTest, LivingSocketIsLeftAloneAndStaleOneReplaced) {
  start();
  const auto second = LineServer::listen(path_);
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, HasSubstr("another ballastd answers"));
  // What a daemon killed by SIGKILL leaves: a name that nobody listens behind.
  ASSERT_EQ(rename(path_.c_str(), (path_ + ".moved").c_str()), 0);
  server_.reset();
  ASSERT_EQ(rename((path_ + ".moved").c_str(), path_.c_str()), 0);
  start();
  TestClient client(path_);
  client.send("1\n");
  turn();
  EXPECT_EQ(client.take(), "{\"echo\":1}\n");
}

TEST_F(LineServerTest, RefusesPathsThatCannotBeSockets) {
  std::ofstream(path_) << "precious";
  const auto file = LineServer::listen(path_);
  ASSERT_FALSE(file);
  EXPECT_THAT(file.error().message, HasSubstr("is no socket"));
  EXPECT_EQ(access(path_.c_str(), F_OK), 0);
  EXPECT_FALSE(LineServer::listen(directory_.path() + "/missing/control.sock"));
  const auto too_long = LineServer::listen(directory_.path() + std::string(200, 'x'));
  ASSERT_FALSE(too_long);
  EXPECT_THAT(too_long.error().message, HasSubstr("choose a shorter --run-dir"));
}

TEST_F(LineServerTest, SocketOfASuccessorIsNotRemoved) {
  start();
  auto first = std::move(server_);
  ASSERT_EQ(unlink(path_.c_str()), 0);
  start();
  first.reset();
  EXPECT_EQ(access(path_.c_str(), F_OK), 0);
}

}  // namespace
}  // namespace ballast::proto
