#include "machine/linux/qmp_client.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/result.h"
#include "proto/unix_socket.h"

namespace ballast::linux_machine {

namespace {

using nlohmann::json;

constexpr size_t kQuotedBytes = 120;
// A read of a few bytes costs as much as one of so many.
constexpr size_t kReadCost = 1024;

// What the peer said, fit for a log line.
std::string quote(std::string_view text) {
  std::string quoted(text.substr(0, kQuotedBytes));
  std::ranges::replace_if(
      quoted, [](char c) { return c < ' ' || c > '~'; }, '?');
  return quoted;
}

std::string text_in(const json& object, const char* member) {
  const auto found = object.find(member);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string{};
}

// Discarded (is_discarded()) if it is not JSON or too deep.
json parse(std::string_view line) {
  bool too_deep = false;
  const auto look = [&too_deep](int depth, json::parse_event_t, const json&) {
    too_deep |= depth > QmpClient::kDepth;
    return !too_deep;
  };
  json message = json::parse(line, look, false);
  return too_deep ? json(json::value_t::discarded) : message;
}

}  // namespace

QmpClient::QmpClient(std::string path, pid_t peer, Listener& listener)
    : path_(std::move(path)), peer_(peer), listener_(listener) {}

short QmpClient::wanted() const {
  if (!socket_.valid()) return 0;
  return static_cast<short>((flooded_ ? 0 : POLLIN) | (output_.empty() ? 0 : POLLOUT));
}

Nanoseconds QmpClient::wake_at() const {
  if (state_ == State::kApart) return retry_at_;
  Nanoseconds first = UINT64_MAX;
  if (state_ == State::kGreeting || on_reply_) first = deadline_;
  if (flooded_) first = std::min(first, window_end_);
  return first;
}

void QmpClient::handle(Nanoseconds now) {
  now_ = now;
  if (socket_.valid()) receive();
  if (socket_.valid()) send_pending();
}

void QmpClient::tick(Nanoseconds now) {
  now_ = now;
  if (flooded_ && now >= window_end_) flooded_ = false;
  if (state_ == State::kApart) {
    if (now >= retry_at_) connect();
  } else if (state_ == State::kGreeting && now >= deadline_) {
    hang_up(fmt::format("no greeting within {} s; QEMU hangs, or another client holds its monitor",
                        kPatience / kSecond));
  } else if (on_reply_ && now >= deadline_) {
    hang_up(fmt::format("no reply within {} s; QEMU hangs or is stopped", kPatience / kSecond));
  }
}

// ---- connecting

void QmpClient::connect() {
  const auto address = proto::unix_address(path_);
  if (!address) return hang_up(address.error().message);
  UniqueFd socket(proto::new_unix_socket());
  if (!socket.valid()) return hang_up(system_error("cannot make a socket").message);
  // On a Unix socket this succeeds or fails at once; EAGAIN: its queue is full.
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0) {
    if (errno == EAGAIN) return hang_up("too many clients wait for it; close the others");
    return hang_up(system_error("cannot connect").message);
  }
  if (const std::string stranger = check_peer(socket.get()); !stranger.empty()) {
    return hang_up(stranger);
  }
  socket_ = std::move(socket);
  state_ = State::kGreeting;
  deadline_ = now_ + kPatience;
  garbage_ = 0;
  // The budget of the window goes on: connecting again must not renew it.
}

// Empty if the right process listens, else what is wrong.
std::string QmpClient::check_peer(int fd) const {
  if (peer_ == 0) return {};
  ucred peer{};
  socklen_t length = sizeof(peer);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
    return system_error("cannot tell who listens").message;
  }
  if (peer.pid == peer_) return {};
  return fmt::format("process {} listens there, not the VM's process {}", peer.pid, peer_);
}

void QmpClient::hang_up(std::string_view why) {
  problem_ = fmt::format("monitor {}: {}", path_, why);
  const bool lasted = state_ == State::kReady && now_ - ready_at_ >= kRetryMax;
  pause_ = lasted ? kRetryMin : std::clamp(pause_ * 2, kRetryMin, kRetryMax);
  retry_at_ = now_ + pause_;
  socket_.reset();
  state_ = State::kApart;
  input_.clear();
  output_.clear();
  on_reply_ = nullptr;
  listener_.on_failure();
}

// ---- sending

void QmpClient::execute(std::string_view command, const nlohmann::json& arguments,
                        OnReply on_reply) {
  BALLAST_CHECK(can_execute() && on_reply);
  send(command, arguments, std::move(on_reply));
}

void QmpClient::send(std::string_view command, const nlohmann::json& arguments, OnReply on_reply) {
  json message = {{"execute", command}, {"id", ++id_}};
  if (!arguments.is_null()) message["arguments"] = arguments;
  output_ = message.dump(-1, ' ', true, json::error_handler_t::replace) + "\n";
  on_reply_ = std::move(on_reply);
  deadline_ = now_ + kPatience;
  // Written by handle(): a failure in here would surprise the caller.
}

void QmpClient::send_pending() {
  while (!output_.empty()) {
    const ssize_t sent = ::send(socket_.get(), output_.data(), output_.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) return;
    if (sent < 0) return hang_up(system_error("cannot send").message);
    output_.erase(0, static_cast<size_t>(sent));
  }
}

// ---- receiving

void QmpClient::receive() {
  if (now_ >= window_end_) {
    window_end_ = now_ + kWindow;
    window_bytes_ = 0;
  }
  flooded_ = window_bytes_ >= kWindowBytes;
  if (flooded_) return;
  std::array<char, kWindowBytes> buffer;
  const ssize_t got = recv(socket_.get(), buffer.data(), kWindowBytes - window_bytes_, 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got < 0) return hang_up(system_error("cannot receive").message);
  if (got == 0) return hang_up("QEMU closed the connection");
  window_bytes_ += std::max(static_cast<size_t>(got), kReadCost);
  flooded_ = window_bytes_ >= kWindowBytes;
  input_.append(buffer.data(), static_cast<size_t>(got));
  size_t start = 0;
  for (;;) {
    const size_t end = std::min(input_.find('\n', start), input_.size());
    if (end - start > kLineBytes) {
      return hang_up(fmt::format("a line of more than {} bytes", kLineBytes));
    }
    if (end == input_.size()) break;
    take_line(std::string_view(input_).substr(start, end - start));
    if (!socket_.valid()) return;  // hung up; input_ is gone
    start = end + 1;
  }
  input_.erase(0, start);
}

void QmpClient::take_line(std::string_view line) {
  const json message = parse(line);
  if (message.is_object()) {
    take_message(message);
  } else {
    take_garbage();
  }
}

void QmpClient::take_message(const nlohmann::json& message) {
  if (state_ == State::kGreeting) {
    return message.contains("QMP") ? negotiate() : take_garbage();
  }
  if (const std::string event = text_in(message, "event"); !event.empty()) {
    const auto data = message.find("data");
    if (state_ == State::kReady) {
      listener_.on_event(event, data == message.end() ? json() : *data);
    }
    return;
  }
  const auto id = message.find("id");
  if (on_reply_ && id != message.end() && id->is_number_unsigned() && id->get<uint64_t>() == id_) {
    return take_reply(message);
  }
  take_garbage();
}

void QmpClient::negotiate() {
  state_ = State::kNegotiating;
  send("qmp_capabilities", nullptr, [this](const QmpReply& reply) {
    if (!reply.ok()) return hang_up("QEMU refuses to negotiate: " + reply.error);
    state_ = State::kReady;
    ready_at_ = now_;
    problem_.clear();
    listener_.on_ready();
  });
}

void QmpClient::take_reply(const nlohmann::json& message) {
  const auto value = message.find("return");
  const auto error = message.find("error");
  if (value == message.end() && (error == message.end() || !error->is_object())) {
    return take_garbage();
  }
  // Taken out first: it may send the next command.
  const OnReply on_reply = std::exchange(on_reply_, nullptr);
  const json nothing;
  if (value != message.end()) return on_reply({*value, {}, {}});
  std::string error_class = quote(text_in(*error, "class"));
  if (error_class.empty()) error_class = "GenericError";
  on_reply({nothing, error_class, quote(text_in(*error, "desc"))});
}

void QmpClient::take_garbage() {
  if (++garbage_ >= kGarbageLines) {
    hang_up(fmt::format("{} lines that are not QMP; is it QEMU's monitor?", garbage_));
  }
}

}  // namespace ballast::linux_machine
