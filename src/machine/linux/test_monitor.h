// For tests and the fuzzer: a scripted QMP server within this thread, and its clock. Nothing
// blocks: the test says what the monitor sends and looks at what it received.
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/units.h"
#include "machine/linux/unique_fd.h"
#include "proto/unix_socket.h"

namespace ballast::linux_machine {

class TestMonitor {
 public:
  TestMonitor() {
    char name[] = "/tmp/ballast-qmp-XXXXXX";
    directory_ = mkdtemp(name);
    open();
  }
  TestMonitor(const TestMonitor&) = delete;
  TestMonitor& operator=(const TestMonitor&) = delete;
  ~TestMonitor() { std::filesystem::remove_all(directory_); }

  std::string path() const { return directory_ + "/monitor"; }

  // QEMU comes and goes.
  void open() {
    const auto address = proto::unix_address(path());
    listener_.reset(proto::new_unix_socket());
    BALLAST_CHECK(
        bind(listener_.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) == 0);
    BALLAST_CHECK(listen(listener_.get(), 1) == 0);
  }
  void go_away() {
    hang_up();
    listener_.reset();
    unlink(path().c_str());
  }
  // True if somebody connected since the last time.
  bool accept() {
    UniqueFd client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!client.valid()) return false;
    client_ = std::move(client);
    received_.clear();
    return true;
  }
  void hang_up() { client_.reset(); }
  bool has_client() const { return client_.valid(); }
  bool is_hung_up() const {
    char byte = 0;
    return recv(client_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
  }

  // As much as the socket takes.
  size_t send(std::string_view bytes) {
    const ssize_t sent = ::send(client_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    return sent < 0 ? 0 : static_cast<size_t>(sent);
  }
  void greet() {
    send(R"({"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": ["oob"]}})"
         "\r\n");
  }
  void event(const std::string& name, const nlohmann::json& data = nullptr) {
    nlohmann::json message = {{"event", name},
                              {"timestamp", {{"seconds", 1}, {"microseconds", 2}}}};
    if (!data.is_null()) message["data"] = data;
    send(message.dump() + "\r\n");
  }

  // The next command that has arrived.
  std::optional<nlohmann::json> command() {
    char buffer[4096];
    for (ssize_t got = 0; (got = recv(client_.get(), buffer, sizeof buffer, 0)) > 0;) {
      received_.append(buffer, static_cast<size_t>(got));
    }
    const size_t end = received_.find('\n');
    if (end == std::string::npos) return std::nullopt;
    nlohmann::json message = nlohmann::json::parse(received_.substr(0, end));
    received_.erase(0, end + 1);
    return message;
  }
  void answer(const nlohmann::json& command, const nlohmann::json& value) {
    send(nlohmann::json{{"return", value}, {"id", command["id"]}}.dump() + "\r\n");
  }
  void refuse(const nlohmann::json& command, const std::string& error_class,
              const std::string& description) {
    send(nlohmann::json{{"id", command["id"]},
                        {"error", {{"class", error_class}, {"desc", description}}}}
             .dump() +
         "\r\n");
  }

 private:
  std::string directory_;
  UniqueFd listener_;
  UniqueFd client_;
  std::string received_;
};

// One turn of a poll loop that never waits.
template <typename Client>
void turn(Client& client, Nanoseconds now) {
  pollfd entry{client.fd(), client.wanted(), 0};
  if (poll(&entry, 1, 0) > 0) client.handle(now);
  client.tick(now);
}

}  // namespace ballast::linux_machine
