#include "web/server.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <ctime>

#include "proto/report_json.h"
#include "web/server_parts.h"

namespace ballast::web {

namespace {

constexpr Nanoseconds kListenRetry = 5 * kSecond;
constexpr int kBacklog = 128;

// A socket that listens, or −1 with errno.
int listening_socket(const WebConfig& config) {
  sockaddr_storage address{};
  socklen_t length = sizeof(sockaddr_in);
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&address);
  if (inet_pton(AF_INET, config.address.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(config.port);
  } else {
    inet_pton(AF_INET6, config.address.c_str(), &v6->sin6_addr);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(config.port);
    length = sizeof(sockaddr_in6);
  }
  const int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  const int on = 1;
  // A daemon that is restarted finds the connections of the last one still ending.
  (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), length) == 0 &&
      listen(fd, kBacklog) == 0) {
    return fd;
  }
  const int why = errno;
  close(fd);
  errno = why;
  return -1;
}

uint16_t port_of(int socket) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length) != 0) return 0;
  return ntohs(address.ss_family == AF_INET6
                   ? reinterpret_cast<const sockaddr_in6*>(&address)->sin6_port
                   : reinterpret_cast<const sockaddr_in*>(&address)->sin_port);
}

}  // namespace

Server::Server(const WebConfig& config, const Api& api, Desk& desk, History* history, Say say,
               ServerLimits limits)
    : config_(config),
      api_(api),
      desk_(desk),
      history_(history),
      say_(std::move(say)),
      limits_(limits),
      rate_(limits.requests_per_second, limits.requests_at_once) {}

Server::~Server() { stop(); }

void Server::run(const std::atomic<bool>& stopping) {
  while (!stopping) {
    if (daemon_ == nullptr && steady_now() >= next_try_) try_listen();
    turn(timeout_ms());
  }
  stop();
}

void Server::try_listen() {
  const int socket = listening_socket(config_);
  daemon_ = socket < 0 ? nullptr : start_library(*this, socket, limits_);
  if (daemon_ == nullptr) {
    const std::string why = std::strerror(errno);
    if (socket >= 0) close(socket);
    next_try_ = steady_now() + kListenRetry;
    if (said_taken_) return;
    said_taken_ = true;
    return say_(
        Severity::kWarning, "http.unavailable",
        fmt::format("cannot listen on {} ({}); it is tried again every {} s. Another program "
                    "or another ballastd may be there: give this one another address with "
                    "--http or listen in [http], or --http off",
                    url_of(config_, config_.port), why, kListenRetry / kSecond));
  }
  port_ = port_of(socket);
  const std::string url = url_of(config_, port_);
  say_(Severity::kInfo, "http.listening", fmt::format("dashboard, API and metrics at {}", url));
  if (is_loopback(config_)) return;
  say_(
      Severity::kWarning, "http.open",
      fmt::format("{} can be reached from other machines: whoever reaches it may read everything "
                  "the API tells, unencrypted. Put a proxy with TLS and a login in front of it, or "
                  "set listen = \"127.0.0.1:{}\" in [http]",
                  url, port_.load()));
}

int Server::timeout_ms() const {
  const Nanoseconds now = steady_now();
  if (daemon_ == nullptr) {
    return next_try_ <= now ? 0 : static_cast<int>((next_try_ - now) / kMillisecond + 1);
  }
  // Events are looked for while somebody listens, slow peers while there is a peer.
  int timeout = !streams_.empty() ? 250 : (!waiting_.empty() ? 100 : (!peers_.empty() ? 1000 : -1));
  MHD_UNSIGNED_LONG_LONG wanted = 0;
  if (MHD_get_timeout(daemon_, &wanted) == MHD_YES) {
    const int at_most = static_cast<int>(std::min<MHD_UNSIGNED_LONG_LONG>(wanted, 1000));
    timeout = timeout < 0 ? at_most : std::min(timeout, at_most);
  }
  return timeout;
}

void Server::turn(int timeout_ms) {
  pollfd fds[2] = {{desk_.web_bell(), POLLIN, 0}, {-1, POLLIN, 0}};
  if (daemon_ != nullptr) {
    fds[1].fd = MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
  }
  (void)poll(fds, 2, timeout_ms);
  if (fds[0].revents != 0) drain(desk_.web_bell());
  take_samples();
  if (daemon_ == nullptr) return;
  MHD_run(daemon_);
  take_answers();
  feed_streams();
  // What was resumed raises no event of its own: one call takes it back, another one sends.
  if (std::exchange(resumed_, false)) {
    MHD_run(daemon_);
    MHD_run(daemon_);
  }
  close_slow_peers();
}

void Server::take_samples() {
  if (history_ == nullptr) return;
  auto snapshot = desk_.latest();
  if (!snapshot || snapshot->unix_ms / 1000 / kSampleSeconds == sampled_) return;
  sampled_ = snapshot->unix_ms / 1000 / kSampleSeconds;
  history_->add(std::move(snapshot));
}

// Of a request that waits: its reply, when it is there or will not come in time.
void Server::take_answers() {
  const Nanoseconds now = steady_now();
  for (auto one = waiting_.begin(); one != waiting_.end();) {
    Exchange& exchange = **one;
    exchange.reply = exchange.look();
    if (!exchange.reply && now >= exchange.deadline) {
      exchange.reply = error_reply(503, "ballastd is too busy to answer now; try again");
    }
    if (!exchange.reply) {
      ++one;
      continue;
    }
    one = waiting_.erase(one);
    exchange.look = nullptr;
    resume(exchange);
  }
}

void Server::resume(Exchange& exchange) {
  exchange.suspended = false;
  resumed_ = true;
  MHD_resume_connection(exchange.connection);
}

void Server::feed_streams() {
  if (streams_.empty()) return;
  const Nanoseconds now = steady_now();
  const uint64_t last = api_.events().last_event();
  for (Exchange* const exchange : streams_) {
    if (exchange->since > last) exchange->since = 0;  // of a daemon before this one
    const bool news = exchange->since < last && exchange->pending.size() < limits_.stream_bytes;
    const bool beat = now - exchange->fed >= limits_.heartbeat;
    if (!news && !beat) continue;
    if (news) {
      for (const Event& event : api_.events().events(exchange->since)) {
        exchange->pending += fmt::format("id: {}\ndata: {}\n\n", event.sequence,
                                         proto::to_line(proto::to_json(event)));
        exchange->since = event.sequence;
        if (exchange->pending.size() >= limits_.stream_bytes)
          break;  // the rest when it has taken these
      }
    } else {
      exchange->pending += ":\n\n";
    }
    exchange->fed = now;
    if (exchange->suspended) resume(*exchange);
  }
}

Nanoseconds Server::allowed_time(Phase phase) const {
  switch (phase) {
    case Phase::kHead:
      return limits_.head_time;
    case Phase::kBody:
      return limits_.body_time;
    case Phase::kSending:
      return limits_.send_time;
    case Phase::kIdle:
      return limits_.idle_time;
    case Phase::kWaiting:    // has a deadline of its own
    case Phase::kStreaming:  // ends when it stops taking
      break;
  }
  return UINT64_MAX;
}

void Server::close_slow_peers() {
  const Nanoseconds now = steady_now();
  if (now - swept_ < kSecond / 2) return;
  swept_ = now;
  for (const auto& [connection, peer] : peers_) {
    // libmicrohttpd sees the end of the connection and forgets it.
    if (now - peer.since > allowed_time(peer.phase)) shutdown(peer.socket, SHUT_RDWR);
  }
}

void Server::stop() {
  if (daemon_ == nullptr) return;
  // It must not be stopped while a connection is suspended.
  for (Exchange* const exchange : waiting_) {
    exchange->reply = error_reply(503, "ballastd is stopping");
    MHD_resume_connection(exchange->connection);
  }
  waiting_.clear();
  for (Exchange* const exchange : streams_) {
    exchange->over = true;
    if (exchange->suspended) MHD_resume_connection(exchange->connection);
    exchange->suspended = false;
  }
  MHD_run(daemon_);
  MHD_stop_daemon(daemon_);
  daemon_ = nullptr;
}

}  // namespace ballast::web
