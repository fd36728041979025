#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "agent/agent.h"

namespace ballast::agent {

namespace {

// What the daemon gave to keep, so that its successor gets it back. Touched by whoever reads the
// socket: the first region's thread, then the agent thread.
constinit int kept[kKeptMax] = {-1, -1, -1, -1};
constinit int kept_count = 0;
constexpr const char* kKeptNames[kKeptMax] = {"tables", "arena", "swap", "pool"};

// Text that grows in a fixed buffer; `full` once something did not fit.
struct Text {
  char bytes[kAgentHandOffBytesMax] = {};
  size_t length = 0;
  bool full = false;

  __attribute__((format(printf, 2, 3))) void add(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    const int wanted = vsnprintf(bytes + length, sizeof(bytes) - length, format, arguments);
    va_end(arguments);
    if (wanted < 0 || static_cast<size_t>(wanted) >= sizeof(bytes) - length) {
      full = true;
      return;
    }
    length += static_cast<size_t>(wanted);
  }

  void add_quoted(const char* text) {
    add("\"");
    for (; *text != '\0'; ++text) {
      const unsigned char c = static_cast<unsigned char>(*text);
      if (c == '"' || c == '\\') {
        add("\\%c", c);
      } else if (c < 0x20) {
        add("\\u%04x", c);
      } else {
        add("%c", c);
      }
    }
    add("\"");
  }
};

// Only one thread hands over at a time; 16 KiB would not suit every caller's stack.
constinit Text message_text;

struct Descriptors {
  int fds[kAgentDescriptorsMax];
  int count = 0;
  int add(int fd) {
    fds[count] = fd;
    return count++;
  }
};

// The RAM files, each once; returns for every region which descriptor is its own.
void add_ram_files(Descriptors& descriptors, unsigned count, int (&index)[kAgentRegionsMax]) {
  for (unsigned i = 0; i < count; ++i) {
    index[i] = 0;
    for (unsigned earlier = 0; earlier < i; ++earlier) {
      if (regions[earlier].ram_fd == regions[i].ram_fd) index[i] = index[earlier];
    }
    if (index[i] == 0) index[i] = descriptors.add(regions[i].ram_fd);
  }
}

void write_identity(Text& text, int ram_fd) {
  const Settings& s = settings();
  text.add("{\"version\":%d,\"name\":", static_cast<int>(kAgentProtocolVersion));
  text.add_quoted(s.name);
  text.add(",\"uuid\":");
  text.add_quoted(s.uuid);
  text.add(",\"memory_bytes\":%llu,\"min_bytes\":%llu,\"qmp\":",
           static_cast<unsigned long long>(s.memory_bytes),
           static_cast<unsigned long long>(s.min_bytes));
  text.add_quoted(s.qmp);
  if (s.limit_bytes != kUnset) {
    text.add(",\"limit_bytes\":%llu", static_cast<unsigned long long>(s.limit_bytes));
  }
  if (s.shares[0] != '\0') {
    text.add(",\"shares\":");
    text.add_quoted(s.shares);
  }
  if (s.balloon_max_bytes != kUnset) {
    text.add(",\"balloon_max_bytes\":%llu", static_cast<unsigned long long>(s.balloon_max_bytes));
  }
  if (s.pshare >= 0) text.add(",\"pshare\":%s", s.pshare != 0 ? "true" : "false");
  if (s.salt[0] != '\0') {
    text.add(",\"salt\":");
    text.add_quoted(s.salt);
  }
  text.add(",\"ram_fd\":%d,\"kept\":[", ram_fd);
  for (int i = 0; i < kept_count; ++i) text.add("%s\"%s\"", i == 0 ? "" : ",", kKeptNames[i]);
  text.add("]}");
}

void write_regions(Text& text, unsigned count, const int (&index)[kAgentRegionsMax]) {
  text.length = 0;
  text.full = false;
  for (unsigned i = 0; i < count; ++i) {
    const Region& region = regions[i];
    text.add(
        "%s{\"base_host_virt_addr\":%llu,\"size\":%llu,\"offset\":%llu,\"page_size\":4096,"
        "\"page_size_kib\":4096,\"ballast\":",
        i == 0 ? "[" : ",", static_cast<unsigned long long>(region.address),
        static_cast<unsigned long long>(region.size),
        static_cast<unsigned long long>(region.offset));
    if (i == 0) {
      write_identity(text, index[i]);
    } else {
      text.add("{\"ram_fd\":%d}", index[i]);
    }
    text.add("}");
  }
  // The newline ends the message: later messages of both forms share this stream.
  text.add("]\n");
}

bool send_hand_off(int socket, unsigned count) {
  Descriptors descriptors;
  int index[kAgentRegionsMax];
  descriptors.add(userfault_fd);
  add_ram_files(descriptors, count, index);
  descriptors.add(discard_bitmap_fd());
  for (int i = 0; i < kept_count; ++i) descriptors.add(kept[i]);
  write_regions(message_text, count, index);
  if (message_text.full) {
    say("the description of the VM's memory is longer than %d bytes",
        static_cast<int>(kAgentHandOffBytesMax));
    return false;
  }

  iovec body{message_text.bytes, message_text.length};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(descriptors.fds))] = {};
  const size_t fd_bytes = static_cast<size_t>(descriptors.count) * sizeof(int);
  msghdr message{};
  message.msg_iov = &body;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = CMSG_SPACE(fd_bytes);
  cmsghdr* ancillary = CMSG_FIRSTHDR(&message);
  ancillary->cmsg_level = SOL_SOCKET;
  ancillary->cmsg_type = SCM_RIGHTS;
  ancillary->cmsg_len = CMSG_LEN(fd_bytes);
  memcpy(CMSG_DATA(ancillary), descriptors.fds, fd_bytes);
  return sendmsg(socket, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(message_text.length);
}

// Reads one header and the descriptors that travel with it (there may be none).
bool read_header(int socket, AgentMessage& header, Descriptors& received) {
  iovec body{&header, sizeof(header)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(received.fds))] = {};
  msghdr message{};
  message.msg_iov = &body;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t got = 0;
  do {
    got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got <= 0) return false;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      received.add(fd);  // at most as many as `control` has room for
    }
  }
  const size_t rest = sizeof(header) - static_cast<size_t>(got);
  return read_exactly(socket, reinterpret_cast<char*>(&header) + got, rest) &&
         header.magic == kAgentMagic;
}

void close_all(const Descriptors& descriptors) {
  for (int i = 0; i < descriptors.count; ++i) close(descriptors.fds[i]);
}

bool take_kept(const AgentMessage& header, const Descriptors& received) {
  if (header.bytes != 0 || header.count != static_cast<uint32_t>(received.count) ||
      received.count > kKeptMax) {
    close_all(received);
    return false;
  }
  if (received.count == 0) return true;  // what we keep already stays
  for (int i = 0; i < kept_count; ++i) close(kept[i]);
  for (int i = 0; i < received.count; ++i) kept[i] = received.fds[i];
  kept_count = received.count;
  return true;
}

// Takes one message apart. Sets `result` if it is a verdict. False: the connection is of no more
// use.
bool take_message(int socket, HandOffResult* result) {
  AgentMessage header{};
  Descriptors received;
  if (!read_header(socket, header, received)) {
    close_all(received);
    return false;
  }
  if (header.kind == kAgentAccept && result != nullptr) {
    if (!take_kept(header, received)) return false;
    result->verdict = Verdict::kAccepted;
    return true;
  }
  close_all(received);  // no other message carries any
  if (header.kind == kAgentRefuse && result != nullptr && header.bytes <= kAgentRefusalBytesMax &&
      read_exactly(socket, result->text, header.bytes)) {
    result->text[header.bytes] = '\0';
    result->verdict = Verdict::kRefused;
    return true;
  }
  return serve_request(socket, header);
}

int64_t now_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1000 + now.tv_nsec / 1000000;
}

}  // namespace

bool read_exactly(int socket, void* into, size_t bytes) {
  char* at = static_cast<char*>(into);
  while (bytes > 0) {
    const ssize_t got = recv(socket, at, bytes, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += got;
    bytes -= static_cast<size_t>(got);
  }
  return true;
}

void hand_off(int socket, unsigned count, int timeout_ms, HandOffResult& result) {
  result.verdict = Verdict::kLost;
  result.text[0] = '\0';
  if (!send_hand_off(socket, count)) return;
  const int64_t end_ms = now_ms() + timeout_ms;
  while (result.verdict == Verdict::kLost) {
    pollfd wait{socket, POLLIN, 0};
    const int64_t left_ms = timeout_ms < 0 ? -1 : end_ms - now_ms();
    if (timeout_ms >= 0 && left_ms <= 0) return;
    if (poll(&wait, 1, static_cast<int>(left_ms)) <= 0) continue;
    if (!take_message(socket, &result)) return;
  }
}

int pool_fd() { return kept_count == kKeptMax ? kept[kKeptMax - 1] : -1; }

bool serve_message(int socket) { return take_message(socket, nullptr); }

}  // namespace ballast::agent
