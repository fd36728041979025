#include "proto/line_server.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <nlohmann/json.hpp>
#include <string_view>

#include "proto/control.h"
#include "proto/report_json.h"
#include "proto/unix_socket.h"

namespace ballast::proto {

namespace {

constexpr int kBacklog = 32;
constexpr int kAcceptsPerTurn = 16;
// Bytes taken from one client in one turn, so that a fast talker cannot keep the loop for himself.
constexpr size_t kReceiveBytes = 16384;
constexpr int kLinesPerTurn = 16;
constexpr Nanoseconds kAcceptRetry = 100 * kMillisecond;
// For a client that was told of its error to read that and hang up.
constexpr Nanoseconds kFarewell = 2 * kSecond;

Error in_use(const std::string& path) {
  return Error{fmt::format(
      "another ballastd answers at {}; stop it first, or give this one another --run-dir", path)};
}

// Removes a socket that nobody listens on. Not there is fine too.
Status remove_stale(const std::string& path, const sockaddr_un& address) {
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return Done{};
    return system_error(fmt::format("cannot look at {}", path));
  }
  if (!S_ISSOCK(info.st_mode)) {
    return Error{
        fmt::format("{} exists and is no socket; remove it, or choose another --run-dir", path)};
  }
  const int probe = new_unix_socket();
  if (probe < 0) return system_error("cannot make a socket");
  const int result = connect(probe, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int why = result == 0 ? 0 : errno;
  close(probe);
  if (why == 0 || why == EAGAIN) return in_use(path);
  if (why != ECONNREFUSED && why != ENOENT) {
    return system_error(fmt::format("cannot tell whether somebody answers at {}", path), why);
  }
  if (unlink(path.c_str()) != 0 && errno != ENOENT) {
    return system_error(fmt::format("cannot remove the stale socket {}", path));
  }
  return Done{};
}

Status bind_and_listen(int fd, const std::string& path, const sockaddr_un& address) {
  constexpr mode_t kMode = 0660;
  // Before bind: the file never exists with a wider mode. After it: the umask may have narrowed it.
  (void)fchmod(fd, kMode);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno == EADDRINUSE) return in_use(path);
    return system_error(fmt::format("cannot make the socket {}", path));
  }
  if (chmod(path.c_str(), kMode) != 0) {
    return system_error(fmt::format("cannot set the mode of {}", path));
  }
  if (::listen(fd, kBacklog) != 0) return system_error(fmt::format("cannot listen on {}", path));
  return Done{};
}

// Nobody in particular, where the kernel does not say.
Peer peer_of(int socket) {
  ucred credentials{};
  socklen_t length = sizeof credentials;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return {};
  return {credentials.uid};
}

}  // namespace

struct LineServer::Client {
  Client(int socket, Nanoseconds ends_at) : fd(socket), peer(peer_of(socket)), deadline(ends_at) {}
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  ~Client() { close(fd); }

  bool has_output() const { return sent < output.size(); }
  bool has_line() const { return input.find('\n') != std::string::npos; }

  const int fd;
  const Peer peer;
  Nanoseconds deadline;  // closed then, unless bytes move before
  std::string input;
  std::string output;
  size_t sent = 0;          // of output
  bool discarding = false;  // an error was said: whatever else it sends is thrown away
  bool end_of_input = false;
  bool gone = false;
};

Result<std::unique_ptr<LineServer>> LineServer::listen(const std::string& path,
                                                       LineServerLimits limits) {
  BALLAST_TRY(const sockaddr_un address, unix_address(path));
  BALLAST_TRY_STATUS(remove_stale(path, address));
  const int fd = new_unix_socket();
  if (fd < 0) return system_error("cannot make a socket");
  if (auto status = bind_and_listen(fd, path, address); !status) {
    close(fd);
    return status.error();
  }
  return std::unique_ptr<LineServer>(new LineServer(path, limits, fd));
}

LineServer::LineServer(std::string path, LineServerLimits limits, int listener)
    : path_(std::move(path)), limits_(limits), listener_(listener) {
  struct stat info {};
  if (lstat(path_.c_str(), &info) == 0) {
    device_ = info.st_dev;
    inode_ = info.st_ino;
  }
}

LineServer::~LineServer() {
  struct stat info {};
  if (lstat(path_.c_str(), &info) == 0 && info.st_dev == device_ && info.st_ino == inode_) {
    unlink(path_.c_str());
  }
  close(listener_);
}

void LineServer::add_pollfds(std::vector<pollfd>& polled) const {
  // A client too many is accepted all the same, to be told so.
  if (!out_of_descriptors_) polled.push_back({listener_, POLLIN, 0});
  for (const auto& client : clients_) {
    // Nothing is read from a client before what it sent is answered and the answer taken.
    const short wanted = client->has_line() ? 0 : POLLIN;
    const short events = client->has_output() ? POLLOUT : wanted;
    polled.push_back({client->fd, events, 0});
  }
}

int LineServer::timeout_ms(Nanoseconds now) const {
  Nanoseconds first = UINT64_MAX;
  for (const auto& client : clients_) {
    // A line waits in the buffer, left over from the last turn; no byte will arrive to tell us.
    if (!client->has_output() && client->has_line()) return 0;
    first = std::min(first, client->deadline);
  }
  if (out_of_descriptors_) first = std::min(first, retry_accept_at_);
  if (first == UINT64_MAX) return -1;
  if (first <= now) return 0;
  return static_cast<int>(
      std::min<Nanoseconds>((first - now + kMillisecond - 1) / kMillisecond, 1u << 30));
}

void LineServer::handle(std::span<const pollfd> polled, const Handler& handler, Nanoseconds now) {
  if (out_of_descriptors_ && now >= retry_accept_at_) out_of_descriptors_ = false;
  bool has_newcomers = false;
  for (const pollfd& entry : polled) {
    if (entry.revents == 0) continue;
    if (entry.fd == listener_) has_newcomers = true;
    const auto client = std::find_if(clients_.begin(), clients_.end(),
                                     [&](const auto& c) { return c->fd == entry.fd; });
    if (client == clients_.end()) continue;
    if ((entry.revents & (POLLERR | POLLNVAL)) != 0) (*client)->gone = true;
    if ((entry.revents & POLLOUT) != 0) send_pending(**client, now);
    if ((entry.revents & (POLLIN | POLLHUP)) != 0) receive(**client, now);
  }
  for (const auto& client : clients_) {
    if (client->gone) continue;
    serve_lines(*client, handler, now);
    // Said everything it will, and got everything it asked for.
    if (client->end_of_input && !client->has_output() && client->input.empty()) client->gone = true;
    if (now >= client->deadline) client->gone = true;
  }
  std::erase_if(clients_, [](const auto& client) { return client->gone; });
  // Last: a newcomer may get the number of a descriptor that `polled` still speaks of.
  if (has_newcomers) accept_clients(now);
}

void LineServer::accept_clients(Nanoseconds now) {
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
        out_of_descriptors_ = true;  // poll() would report the same newcomer for ever
        retry_accept_at_ = now + kAcceptRetry;
      }
      return;
    }
    if (clients_.size() < limits_.clients) {
      clients_.push_back(std::make_unique<Client>(fd, now + limits_.idle));
      continue;
    }
    const std::string line =
        to_line(error_answer(
            fmt::format("too many clients: {} are connected, close some", limits_.clients))) +
        '\n';
    (void)!send(fd, line.data(), line.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    close(fd);
  }
}

void LineServer::receive(Client& client, Nanoseconds now) {
  char buffer[kReceiveBytes];
  const ssize_t got = recv(client.fd, buffer, sizeof buffer, 0);
  if (got < 0) {
    if (errno != EAGAIN && errno != EINTR) client.gone = true;
    return;
  }
  if (got == 0) {
    client.end_of_input = true;
    return;
  }
  if (client.discarding) return;
  client.deadline = now + limits_.idle;
  client.input.append(buffer, static_cast<size_t>(got));
}

void LineServer::serve_lines(Client& client, const Handler& handler, Nanoseconds now) {
  for (int served = 0; served < kLinesPerTurn; ++served) {
    if (client.has_output() || client.discarding || client.gone) return;
    const size_t end = client.input.find('\n');
    if (std::min(end, client.input.size()) > limits_.line_bytes) {
      dismiss(client, fmt::format("a request longer than {} bytes is refused", limits_.line_bytes),
              now);
    } else if (end != std::string::npos) {
      serve_line(client, end, handler, now);
    } else if (client.end_of_input && !client.input.empty()) {
      dismiss(client, "the request was cut off: its line has no end", now);
    } else {
      return;
    }
    // Mostly the kernel takes the whole answer, and the next line can be served in this turn.
    send_pending(client, now);
  }
}

void LineServer::serve_line(Client& client, size_t length, const Handler& handler,
                            Nanoseconds now) {
  const nlohmann::json request =
      nlohmann::json::parse(std::string_view(client.input.data(), length), nullptr, false);
  if (request.is_discarded()) {
    dismiss(client, R"(this is not JSON; a request looks like {"op":"ls"})", now);
    return;
  }
  client.input.erase(0, length + 1);
  // Whatever slips out of a handler must not take the daemon along.
  try {
    queue_answer(client, handler(request, client.peer));
  } catch (const std::exception& problem) {
    queue_answer(client, error_answer(fmt::format("internal error: {}", problem.what())));
  }
}

void LineServer::dismiss(Client& client, const std::string& why, Nanoseconds now) {
  client.discarding = true;
  client.input.clear();
  client.deadline = now + std::min(limits_.idle, kFarewell);
  queue_answer(client, error_answer(why));
}

void LineServer::queue_answer(Client& client, const nlohmann::json& answer) {
  client.output = to_line(answer);
  if (client.output.size() > limits_.answer_bytes) {
    client.output = to_line(error_answer(
        fmt::format("the answer has {} bytes, more than the {} that are allowed; ask for less",
                    client.output.size(), limits_.answer_bytes)));
  }
  client.output += '\n';
  client.sent = 0;
}

void LineServer::send_pending(Client& client, Nanoseconds now) {
  while (client.has_output()) {
    const ssize_t sent = send(client.fd, client.output.data() + client.sent,
                              client.output.size() - client.sent, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) client.gone = true;
      return;
    }
    client.sent += static_cast<size_t>(sent);
    if (!client.discarding) client.deadline = now + limits_.idle;
  }
  client.output.clear();
  client.sent = 0;
  // Half-closed rather than closed at once: with unread input, close() would destroy the answer on
  // its way.
  if (client.discarding) shutdown(client.fd, SHUT_WR);
}

}  // namespace ballast::proto
