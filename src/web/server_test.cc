// The HTTP end with real sockets: what it answers, and what strangers cannot do to it. The test
// plays the daemon's main thread.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>

#include "web/test_host.h"
#include "web/web.h"

namespace ballast::web {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class Client {
 public:
  explicit Client(uint16_t port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  ~Client() { close(fd_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void say(const std::string& text) const {
    (void)!send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
  }
  // What comes until the other end closes, `until` has come, or the time is over.
  std::string hear(const std::string& until = "", int seconds = 10) {
    std::string heard;
    const Nanoseconds end = steady_now() + static_cast<Nanoseconds>(seconds) * kSecond;
    while (steady_now() < end && (until.empty() || heard.find(until) == std::string::npos)) {
      pollfd fd{fd_, POLLIN, 0};
      if (poll(&fd, 1, 100) <= 0) continue;
      char buffer[65536];
      const ssize_t got = recv(fd_, buffer, sizeof buffer, 0);
      if (got <= 0) {
        closed_ = true;
        break;
      }
      heard.append(buffer, static_cast<size_t>(got));
    }
    return heard;
  }
  bool closed() const { return closed_; }

 private:
  const int fd_;
  bool closed_ = false;
};

class ServerTest : public testing::Test {
 protected:
  ServerTest() {
    std::filesystem::remove_all(directory_);
    service_.host = [this] { return make_host(vms_); };
    service_.options = [] { return Options{}; };
    service_.set_option = [](std::string_view, std::string_view) -> Result<std::string> {
      return std::string();
    };
    Web::Parts parts{
        .config = {}, .state_dir = directory_, .events = make_events(), .say = {}, .limits = {}};
    parts.config.port = 0;
    // Shorter than in earnest, as the test waits for them.
    parts.limits.head_time = parts.limits.body_time = kSecond;
    parts.limits.answer_time = kSecond / 2;
    parts.limits.heartbeat = kSecond / 2;
    parts.limits.unsent_bytes = size_t{12} << 20;
    parts.say = [](Severity, const std::string&, const std::string&) {};
    web_ = std::make_unique<Web>(std::move(parts));
    main_ = std::thread([this] {
      while (!stopping_) {
        pollfd bell{web_->bell(), POLLIN, 0};
        (void)poll(&bell, 1, 20);
        if (!stuck_ && bell.revents != 0) web_->serve(service_);
      }
    });
    for (int i = 0; i < 500 && web_->port() == 0; ++i) usleep(10'000);
    EXPECT_NE(web_->port(), 0);
  }
  ~ServerTest() override {
    stopping_ = true;
    main_.join();
    web_.reset();
    std::filesystem::remove_all(directory_);
  }

  std::string ask(const std::string& path, const std::string& more = "Connection: close\r\n") {
    Client client(web_->port());
    client.say("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n" + more + "\r\n");
    return client.hear();
  }
  std::string token() const { return *load_or_make_token(directory_ + "/http-token"); }

  const std::string directory_ = testing::TempDir() + "ballast-web." + std::to_string(getpid());
  proto::ControlService service_;
  std::unique_ptr<Web> web_;
  std::thread main_;
  std::atomic<bool> stopping_ = false;
  std::atomic<bool> stuck_ = false;
  std::atomic<size_t> vms_ = 2;
};

TEST_F(ServerTest, AnswersWithSecurityHeaders) {
  const std::string reply = ask("/api/v1/host");
  EXPECT_THAT(reply, StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(reply, HasSubstr("Content-Security-Policy: default-src 'self'"));
  EXPECT_THAT(reply, HasSubstr("X-Content-Type-Options: nosniff"));
  EXPECT_THAT(reply, HasSubstr("\"vm1\""));
  EXPECT_THAT(ask("/metrics"), HasSubstr("ballast_host_vms 2"));
  EXPECT_THAT(ask("/"), HasSubstr("<title>Ballast</title>"));
  EXPECT_THAT(ask("/api/v1/options"), HasSubstr("Mem.IdleTax"));
  EXPECT_THAT(ask("/api/v1/history"), HasSubstr("\"times\""));
}

TEST_F(ServerTest, HeadHasNoBodyAndAConnectionCanBeUsedAgain) {
  Client client(web_->port());
  client.say("HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
  const std::string head = client.hear("\r\n\r\n");
  EXPECT_THAT(head, StartsWith("HTTP/1.1 200"));
  EXPECT_EQ(head.find("ballast_host"), std::string::npos);
  client.say("GET /api/v1/version HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_THAT(client.hear("1.2.3"), StartsWith("HTTP/1.1 200"));
}

TEST_F(ServerTest, ChangesWithTheTokenOnly) {
  const std::string body = R"({"name":"Mem.IdleTax","value":"50"})";
  const auto change = [&](const std::string& headers) {
    Client client(web_->port());
    client.say(
        "POST /api/v1/options HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        "Content-Type: application/json\r\n" +
        headers + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
    return client.hear();
  };
  EXPECT_THAT(change(""), StartsWith("HTTP/1.1 401"));
  EXPECT_THAT(change("Authorization: Bearer " + std::string(64, '0') + "\r\n"),
              StartsWith("HTTP/1.1 401"));
  EXPECT_THAT(change("Authorization: Bearer " + token() + "\r\n"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(change("Authorization: Bearer " + token() + "\r\nOrigin: http://evil.example\r\n"),
              StartsWith("HTTP/1.1 403"));
}

TEST_F(ServerTest, StreamsEvents) {
  Client client(web_->port());
  client.say("GET /api/v1/events/stream?since=1 HTTP/1.1\r\nHost: localhost\r\n\r\n");
  const std::string heard = client.hear("event 3");
  EXPECT_THAT(heard, HasSubstr("Content-Type: text/event-stream"));
  EXPECT_THAT(heard, HasSubstr("id: 2\n"));
  EXPECT_EQ(heard.find("event 1"), std::string::npos);
}

TEST_F(ServerTest, OnlySoManyStreams) {
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 17; ++i) {
    clients.push_back(std::make_unique<Client>(web_->port()));
    clients.back()->say("GET /api/v1/events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    EXPECT_THAT(clients.back()->hear("\r\n\r\n"),
                StartsWith(i < 16 ? "HTTP/1.1 200" : "HTTP/1.1 503"));
  }
  // Somebody who leaves makes room, at the latest with the next heartbeat.
  clients.erase(clients.begin());
  std::string reply;
  for (int i = 0; i < 30 && !reply.starts_with("HTTP/1.1 200"); ++i) {
    Client client(web_->port());
    client.say("GET /api/v1/events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    reply = client.hear("\r\n\r\n");
    if (!reply.starts_with("HTTP/1.1 200")) usleep(500'000);
  }
  EXPECT_THAT(reply, StartsWith("HTTP/1.1 200"));
}

TEST_F(ServerTest, TooMuchIsRefused) {
  EXPECT_THAT(ask("/" + std::string(20'000, 'a')), testing::Not(StartsWith("HTTP/1.1 200")));
  EXPECT_THAT(ask("/metrics", "X: " + std::string(20'000, 'a') + "\r\n"),
              testing::Not(StartsWith("HTTP/1.1 200")));
  Client client(web_->port());
  client.say("POST /api/v1/whatif HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n");
  EXPECT_THAT(client.hear("\r\n\r\n"), StartsWith("HTTP/1.1 413"));
  // In chunks nobody says how much it will be.
  Client chunks(web_->port());
  chunks.say(
      "POST /api/v1/whatif HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 20; ++i) chunks.say("2000\r\n" + std::string(0x2000, ' ') + "\r\n");
  EXPECT_THAT(chunks.hear(), testing::Not(HasSubstr("200 OK")));
  EXPECT_TRUE(chunks.closed());
}

TEST_F(ServerTest, GarbageEndsItsOwnConnectionOnly) {
  for (const std::string& garbage :
       {std::string("\0\1\2\3\r\n\r\n", 8), std::string("GET\r\n\r\n"), std::string("\r\n\r\n\r\n"),
        std::string("GET / HTTP/9.9\r\n\r\n"), std::string("GET / HTTP/1.1\r\n\r\n"),
        std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        std::string("GET /%00%zz%2e%2e/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
        std::string("POST /api/v1/set HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n"),
        std::string("POST /api/v1/set HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-"
                    "Encoding: chunked\r\n\r\nzzz\r\n")}) {
    Client client(web_->port());
    client.say(garbage);
    EXPECT_EQ(client.hear("\r\n\r\n", 3).find("HTTP/1.1 200"), std::string::npos) << garbage;
  }
  EXPECT_THAT(ask("/api/v1/version"), StartsWith("HTTP/1.1 200"));
}

TEST_F(ServerTest, SlowClientsAreClosedAndKeepNobodyWaiting) {
  std::vector<std::unique_ptr<Client>> slow;
  for (int i = 0; i < 100; ++i) {
    slow.push_back(std::make_unique<Client>(web_->port()));
    slow.back()->say(i % 2 == 0 ? "GET / HT"
                                : "POST /api/v1/whatif HTTP/1.1\r\nHost: localhost\r\n"
                                  "Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{");
  }
  const Nanoseconds begun = steady_now();
  while (steady_now() - begun < 3 * kSecond) {
    const Nanoseconds asked = steady_now();
    EXPECT_THAT(ask("/api/v1/host"), StartsWith("HTTP/1.1 200"));
    EXPECT_LT(steady_now() - asked, kSecond);
    // A byte now and then does not buy more time.
    for (auto& client : slow) client->say("1");
    usleep(300'000);
  }
  for (auto& client : slow) {
    client->hear("", 1);
    EXPECT_TRUE(client->closed());
  }
}

TEST_F(ServerTest, WhatClientsDoNotTakeIsBounded) {
  vms_ = 8000;  // some 10 MB of text, more than a socket's buffers hold
  Client greedy(web_->port());
  greedy.say("GET /api/v1/vms HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  usleep(700'000);
  EXPECT_THAT(ask("/api/v1/vms").substr(0, 2000),
              HasSubstr("others have not taken their answers yet"));
  EXPECT_THAT(ask("/api/v1/version"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(greedy.hear().substr(0, 2000), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(ask("/api/v1/vms").substr(0, 2000), StartsWith("HTTP/1.1 200"));
}

TEST_F(ServerTest, AMainThreadThatDoesNotAnswerIsNotWaitedForForever) {
  stuck_ = true;
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 20; ++i) {
    clients.push_back(std::make_unique<Client>(web_->port()));
    clients.back()->say(
        "GET /api/v1/options HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  }
  for (auto& client : clients) EXPECT_THAT(client->hear(), StartsWith("HTTP/1.1 503"));
  stuck_ = false;
  EXPECT_THAT(ask("/api/v1/options"), StartsWith("HTTP/1.1 200"));
}

TEST_F(ServerTest, StopsWhileOthersWaitAndListen) {
  stuck_ = true;
  Client waiting(web_->port());
  waiting.say("GET /api/v1/options HTTP/1.1\r\nHost: localhost\r\n\r\n");
  Client listening(web_->port());
  listening.say("GET /api/v1/events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
  listening.hear("event 3");
  stopping_ = true;
  main_.join();
  const Nanoseconds begun = steady_now();
  web_.reset();
  EXPECT_LT(steady_now() - begun, kSecond);
  main_ = std::thread([] {});
}

}  // namespace
}  // namespace ballast::web
