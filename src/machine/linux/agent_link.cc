#include "machine/linux/agent_link.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cstring>

namespace ballast::linux_machine {

namespace {

// A hand-off plus notices that the kernel glued in front of it.
constexpr size_t kInboxBytesMax = 2 * kAgentHandOffBytesMax;
constexpr int kVerdictTimeoutMs = 1000;
constexpr size_t kControlBytes = CMSG_SPACE(kAgentDescriptorsMax * sizeof(int));

std::span<const std::byte> bytes_of(const AgentMessage& message) {
  return std::as_bytes(std::span(&message, 1));
}

AgentMessage header(AgentMessageKind kind, size_t count, size_t bytes) {
  return {kAgentMagic, static_cast<uint32_t>(kind), static_cast<uint32_t>(count),
          static_cast<uint32_t>(bytes)};
}

void take_descriptors(msghdr& message, std::vector<UniqueFd>& descriptors) {
  for (cmsghdr* control = CMSG_FIRSTHDR(&message); control != nullptr;
       control = CMSG_NXTHDR(&message, control)) {
    if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(control) + i * sizeof(int), sizeof(int));
      descriptors.emplace_back(fd);
    }
  }
}

}  // namespace

// Appends to the inbox. 0: nothing there now, or the end (closed_).
Result<size_t> AgentLink::read_some(std::vector<UniqueFd>& descriptors) {
  std::array<char, kAgentHandOffBytesMax + 1> buffer;
  alignas(cmsghdr) std::array<char, kControlBytes> control;
  iovec vector{buffer.data(), buffer.size()};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got = -1;
  do {
    got = ::recvmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return size_t{0};
  if (got < 0 && errno == ECONNRESET) got = 0;
  if (got < 0) return system_error("receive from the agent");
  take_descriptors(message, descriptors);
  if ((message.msg_flags & MSG_CTRUNC) != 0) {
    return Error{fmt::format("hand-off refused: more than {} descriptors, or no room for them in "
                             "this process (raise LimitNOFILE)",
                             static_cast<int>(kAgentDescriptorsMax)),
                 EINVAL};
  }
  closed_ = got == 0;
  inbox_.append(buffer.data(), static_cast<size_t>(got));
  return static_cast<size_t>(got);
}

// Takes the message that `bytes` begins with; returns its length, 0 while it is not whole.
Result<size_t> AgentLink::take_message(std::string_view bytes, Received& received) {
  AgentMessage message{};
  std::memcpy(&message, bytes.data(), sizeof(message));
  if (message.kind == kAgentDiscards && message.bytes == 0) {
    received.discards = true;
    return sizeof(message);
  }
  if (message.kind != kAgentRemapped) {
    return Error{fmt::format("the agent sent a message of unknown kind {}", message.kind), EPROTO};
  }
  if (awaited_.empty() || message.count != awaited_.front() ||
      message.bytes != message.count * sizeof(uint32_t)) {
    return Error{fmt::format("the agent sent {} results ({} bytes) where {} are awaited",
                             message.count, message.bytes, awaited_.empty() ? 0 : awaited_.front()),
                 EPROTO};
  }
  bytes.remove_prefix(sizeof(message));
  if (bytes.size() < message.bytes) return size_t{0};
  const size_t before = received.remapped.size();
  received.remapped.resize(before + message.count);
  std::memcpy(&received.remapped[before], bytes.data(), message.bytes);
  awaited_.pop_front();
  return sizeof(message) + message.bytes;
}

Result<AgentLink::Received> AgentLink::receive() {
  Received received;
  std::vector<UniqueFd> descriptors;
  BALLAST_TRY(const size_t got, read_some(descriptors));
  size_t used = 0;
  while (inbox_.size() - used >= sizeof(AgentMessage)) {
    const std::string_view rest = std::string_view(inbox_).substr(used);
    uint32_t magic = 0;
    std::memcpy(&magic, rest.data(), sizeof(magic));
    if (magic != kAgentMagic) break;
    BALLAST_TRY(const size_t taken, take_message(rest, received));
    if (taken == 0) break;
    used += taken;
  }
  inbox_.erase(0, used);
  if (!descriptors.empty() || (!inbox_.empty() && inbox_.front() == '[')) {
    // The kernel ends a receive behind data that carried descriptors, so the text is whole and
    // last.
    received.hand_off_arrived = true;
    received.hand_off = {std::exchange(inbox_, {}), std::move(descriptors)};
  } else if (!inbox_.empty()) {
    // The beginning of a message, then.
    const uint32_t magic = kAgentMagic;
    const size_t length = std::min(inbox_.size(), sizeof(magic));
    if (std::memcmp(inbox_.data(), &magic, length) != 0 || inbox_.size() > kInboxBytesMax) {
      return Error{fmt::format("the agent sent {} bytes that are no message", inbox_.size()),
                   EPROTO};
    }
  }
  received.closed = closed_ && got == 0;
  return received;
}

Status AgentLink::send_all(std::span<const std::byte> bytes, std::span<const int> descriptors) {
  BALLAST_CHECK(descriptors.size() <= kAgentDescriptorsMax);
  alignas(cmsghdr) std::array<char, kControlBytes> control{};
  while (!bytes.empty()) {
    iovec vector{const_cast<std::byte*>(bytes.data()), bytes.size()};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    if (!descriptors.empty()) {
      message.msg_control = control.data();
      message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
      cmsghdr* first = CMSG_FIRSTHDR(&message);
      first->cmsg_level = SOL_SOCKET;
      first->cmsg_type = SCM_RIGHTS;
      first->cmsg_len = CMSG_LEN(descriptors.size_bytes());
      std::memcpy(CMSG_DATA(first), descriptors.data(), descriptors.size_bytes());
    }
    const ssize_t sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      bytes = bytes.subspan(static_cast<size_t>(sent));
      descriptors = {};
      continue;
    }
    if (errno == EINTR) continue;
    pollfd room{socket_.get(), POLLOUT, 0};
    if ((errno != EAGAIN && errno != EWOULDBLOCK) || ::poll(&room, 1, kVerdictTimeoutMs) <= 0) {
      return system_error("send to the agent");
    }
  }
  return Done{};
}

Status AgentLink::send_accept(std::span<const int> kept) {
  return send_all(bytes_of(header(kAgentAccept, kept.size(), 0)), kept);
}

Status AgentLink::send_refuse(std::string_view text) {
  text = text.substr(0, kAgentRefusalBytesMax);
  const AgentMessage message = header(kAgentRefuse, 0, text.size());
  std::string bytes(reinterpret_cast<const char*>(&message), sizeof(message));
  bytes += text;
  return send_all(std::as_bytes(std::span(bytes)), {});
}

bool AgentLink::flush() {
  while (!outbox_.empty()) {
    const ssize_t sent =
        ::send(socket_.get(), outbox_.data(), outbox_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return false;  // full, or the end of the connection, which receive() reports
    outbox_.erase(0, static_cast<size_t>(sent));
  }
  return true;
}

// A stream may take a message in part; its rest goes first, and new requests are dropped until it
// is out.
template <typename Range>
bool AgentLink::send_request(AgentMessageKind kind, std::span<const Range> ranges) {
  if (!flush()) return false;
  if (ranges.empty()) return true;
  const AgentMessage message = header(kind, ranges.size(), ranges.size_bytes());
  std::string bytes(reinterpret_cast<const char*>(&message), sizeof(message));
  bytes.append(reinterpret_cast<const char*>(ranges.data()), ranges.size_bytes());
  ssize_t sent = -1;
  do {
    sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return false;
  outbox_ = bytes.substr(static_cast<size_t>(sent));
  return true;
}

bool AgentLink::send_sample(std::span<const AgentRange> ranges) {
  BALLAST_CHECK(ranges.size() <= kAgentSampleRangesMax);
  return send_request(kAgentSample, ranges);
}

bool AgentLink::send_share(std::span<const AgentShareRange> ranges) {
  BALLAST_CHECK(!ranges.empty() && ranges.size() <= kAgentRemapRangesMax);
  if (!send_request(kAgentShare, ranges)) return false;
  awaited_.push_back(static_cast<uint32_t>(ranges.size()));
  return true;
}

bool AgentLink::send_home(std::span<const AgentRange> ranges) {
  BALLAST_CHECK(!ranges.empty() && ranges.size() <= kAgentRemapRangesMax);
  if (!send_request(kAgentHome, ranges)) return false;
  awaited_.push_back(static_cast<uint32_t>(ranges.size()));
  return true;
}

}  // namespace ballast::linux_machine
