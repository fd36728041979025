// For tests: a directory that goes away, and a client that sends any bytes and never blocks.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include "proto/unix_socket.h"

namespace ballast::proto {

class TestDirectory {
 public:
  TestDirectory() {
    char name[] = "/tmp/ballast-proto-XXXXXX";
    path_ = mkdtemp(name);
  }
  TestDirectory(const TestDirectory&) = delete;
  TestDirectory& operator=(const TestDirectory&) = delete;
  ~TestDirectory() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class TestClient {
 public:
  explicit TestClient(const std::string& path) : fd_(new_unix_socket()) {
    const auto address = unix_address(path);
    EXPECT_EQ(connect(fd_, reinterpret_cast<const sockaddr*>(&*address), sizeof *address), 0)
        << path;
  }
  TestClient(const TestClient&) = delete;
  TestClient& operator=(const TestClient&) = delete;
  ~TestClient() { close(fd_); }

  // What does not fit into the socket is dropped.
  void send(std::string_view bytes) {
    (void)!::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  void finish_sending() { shutdown(fd_, SHUT_WR); }
  // All that has arrived.
  std::string take() {
    std::string bytes;
    char buffer[65536];
    for (ssize_t got = 0; (got = recv(fd_, buffer, sizeof buffer, 0)) > 0;) {
      bytes.append(buffer, static_cast<size_t>(got));
    }
    return bytes;
  }
  bool is_closed() const {
    char byte = 0;
    const ssize_t got = recv(fd_, &byte, 1, MSG_PEEK);
    return got == 0 || (got < 0 && errno != EAGAIN);
  }

 private:
  const int fd_;
};

}  // namespace ballast::proto
