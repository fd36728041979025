#include "proto/client.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "proto/control.h"
#include "proto/report_json.h"
#include "proto/run_dir.h"
#include "proto/unix_socket.h"

namespace ballast::proto {

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kAnswerBytesMax = size_t{64} << 20;

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  int fd() const { return fd_; }

 private:
  const int fd_;
};

struct Conversation {
  const Socket& socket;
  const std::string& path;
  Clock::time_point deadline;
};

Error cannot_connect(const std::string& path, const std::string& run_dir, int error_number) {
  if (error_number == EACCES || error_number == EPERM) {
    return Error{
        fmt::format("no permission for {}: try as root, or as a member of its group", path),
        error_number};
  }
  if (error_number == ENOENT || error_number == ECONNREFUSED) {
    return Error{
        fmt::format("no ballastd answers at {}: is it running? Start it with 'ballastd --run-dir "
                    "{}', or name its directory with --run-dir",
                    path, run_dir),
        error_number};
  }
  return system_error(fmt::format("cannot connect to {}", path), error_number);
}

Error too_late(const std::string& path) {
  return Error{
      fmt::format("the ballastd at {} does not answer in time; it may be stopped or busy", path),
      ETIMEDOUT};
}

Error hung_up(const std::string& path) {
  return Error{fmt::format("the ballastd at {} hung up before it answered; was it stopped?", path),
               ECONNRESET};
}

// A full backlog answers EAGAIN: the daemon is alive but has not come to us yet.
int connect_until(int fd, const sockaddr_un& address, Clock::time_point deadline) {
  for (;;) {
    if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return 0;
    if (errno == EINTR) continue;
    if (errno != EAGAIN || Clock::now() >= deadline) return errno;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

// False: the deadline came first.
bool wait_for(const Conversation& talk, short events) {
  for (;;) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(talk.deadline - Clock::now()).count();
    if (left <= 0) return false;
    pollfd polled{talk.socket.fd(), events, 0};
    const int found = poll(&polled, 1, static_cast<int>(std::min<int64_t>(left, 1 << 30)));
    if (found > 0) return true;
    if (found < 0 && errno != EINTR) return false;
  }
}

Status send_all(const Conversation& talk, std::string_view text) {
  while (!text.empty()) {
    const ssize_t sent = send(talk.socket.fd(), text.data(), text.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      text.remove_prefix(static_cast<size_t>(sent));
    } else if (errno == EAGAIN) {
      if (!wait_for(talk, POLLOUT)) return too_late(talk.path);
    } else if (errno == EPIPE) {
      return Done{};  // it may have said why: read that first
    } else if (errno != EINTR) {
      return system_error(fmt::format("cannot send to {}", talk.path));
    }
  }
  return Done{};
}

Result<std::string> receive_line(const Conversation& talk) {
  std::string line;
  char buffer[65536];
  for (;;) {
    const ssize_t got = recv(talk.socket.fd(), buffer, sizeof buffer, 0);
    if (got == 0) return hung_up(talk.path);
    if (got < 0 && errno == EAGAIN) {
      if (!wait_for(talk, POLLIN)) return too_late(talk.path);
      continue;
    }
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == ECONNRESET) return hung_up(talk.path);
    if (got < 0) return system_error(fmt::format("cannot read from {}", talk.path));
    const std::string_view part(buffer, static_cast<size_t>(got));
    const size_t end = part.find('\n');
    line.append(part.substr(0, end));
    if (end != std::string_view::npos) return line;
    if (line.size() > kAnswerBytesMax) {
      return Error{
          fmt::format("what answers at {} is no ballastd: its line does not end", talk.path)};
    }
  }
}

}  // namespace

Result<nlohmann::json> call(const std::string& run_dir, const nlohmann::json& request,
                            std::chrono::milliseconds timeout) {
  const std::string path = control_socket_path(run_dir);
  BALLAST_TRY(const sockaddr_un address, unix_address(path));
  const Socket socket(new_unix_socket());
  if (socket.fd() < 0) return system_error("cannot make a socket");
  const auto deadline = Clock::now() + timeout;
  const int refused = connect_until(socket.fd(), address, deadline);
  if (refused == EAGAIN) return too_late(path);
  if (refused != 0) return cannot_connect(path, run_dir, refused);
  const Conversation talk{socket, path, deadline};
  BALLAST_TRY_STATUS(send_all(talk, to_line(request) + '\n'));
  BALLAST_TRY(const std::string line, receive_line(talk));
  nlohmann::json answer = nlohmann::json::parse(line, nullptr, false);
  if (!answer.is_object() || !answer.contains("ok") || !answer["ok"].is_boolean()) {
    return Error{
        fmt::format("what answers at {} is no ballastd: it said '{}'", path, line.substr(0, 80))};
  }
  if (answer["ok"].get<bool>()) return answer;
  const bool has_text = answer.contains("error") && answer["error"].is_string();
  return Error{has_text ? answer["error"].get<std::string>() : "refused without a reason"};
}

}  // namespace ballast::proto
