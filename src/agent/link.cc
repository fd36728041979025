#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "agent/agent.h"

namespace ballast::agent {

namespace {

constexpr long kRetryNanoseconds = 20'000'000;
constexpr int kFirstVerdictMs = 30'000;
constexpr int kFirstRetries = 500;  // × 20 ms: a daemon that restarts just now may take the VM yet

// One descriptor number for life: a new connection replaces the old one atomically (dup3), so
// QEMU's threads can send on it at any time and reach a live socket, or a dead one of ours; never a
// stranger's.
int link_fd = -1;
int wake_fd = -1;  // eventfd: a region waits to be announced

pthread_mutex_t mappings = PTHREAD_MUTEX_INITIALIZER;

// The region that a QEMU thread wants announced.
enum class Request { kNone, kWaiting, kAccepted, kRefused };
pthread_mutex_t request_lock = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t request_done = PTHREAD_COND_INITIALIZER;
constinit Request request = Request::kNone;
constinit char request_text[kAgentRefusalBytesMax + 1] = {};

void sleep_before_retry() {
  const timespec pause{0, kRetryNanoseconds};
  nanosleep(&pause, nullptr);
}

// A connected socket, or −1 with errno.
int connect_to_daemon() {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  strcpy(address.sun_path, settings().socket);  // settings.cc checked the length
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return fd;
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

bool has_request() {
  pthread_mutex_lock(&request_lock);
  const bool waiting = request == Request::kWaiting;
  pthread_mutex_unlock(&request_lock);
  return waiting;
}

void finish_request(const HandOffResult& result) {
  pthread_mutex_lock(&request_lock);
  if (result.verdict == Verdict::kAccepted) {
    region_count.fetch_add(1, std::memory_order_release);
    request = Request::kAccepted;
  } else {
    strcpy(request_text, result.text);
    request = Request::kRefused;
  }
  pthread_cond_signal(&request_done);
  pthread_mutex_unlock(&request_lock);
}

// Buffers of the agent thread; its stack is small.
constinit HandOffResult thread_result;
constinit char last_refusal[kAgentRefusalBytesMax + 1] = {};

// Every new daemon may refuse for a while (it may be starting, or full): say so once, and keep
// asking.
void report_refusal(const char* text) {
  if (strcmp(text, last_refusal) == 0) return;
  strcpy(last_refusal, text);
  say("ballastd does not take VM '%s' back: %s; its vCPUs wait and the agent keeps asking",
      settings().name, text);
}

void reconnect() {
  for (;;) {
    sleep_before_retry();
    const int fd = connect_to_daemon();
    if (fd < 0) continue;
    const bool announces = has_request();
    const unsigned count = region_count.load(std::memory_order_acquire) + (announces ? 1 : 0);
    hand_off(fd, count, -1, thread_result);
    const Verdict verdict = thread_result.verdict;
    if (verdict == Verdict::kAccepted) {
      dup3(fd, link_fd, O_CLOEXEC);
      last_refusal[0] = '\0';
    }
    close(fd);
    if (announces && verdict != Verdict::kLost) finish_request(thread_result);
    if (verdict == Verdict::kAccepted) {
      repeat_discards_notification();
      return;
    }
    if (!announces && verdict == Verdict::kRefused) report_refusal(thread_result.text);
  }
}

void announce_requested() {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = read(wake_fd, &count, sizeof(count));
  if (!has_request()) return;  // a reconnection announced it already
  hand_off(link_fd, region_count.load(std::memory_order_acquire) + 1, -1, thread_result);
  if (thread_result.verdict == Verdict::kLost) {
    reconnect();
  } else {
    finish_request(thread_result);
  }
}

void* run_agent_thread(void*) {
  pthread_setname_np(pthread_self(), "ballast-agent");
  for (;;) {
    pollfd waits[] = {{link_fd, POLLIN, 0}, {wake_fd, POLLIN, 0}};
    if (poll(waits, 2, -1) < 0) continue;
    if (waits[0].revents != 0 && !serve_message(link_fd)) {
      reconnect();
      continue;
    }
    if (waits[1].revents != 0) announce_requested();
  }
  return nullptr;
}

void start_agent_thread() {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 256 * 1024);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  // QEMU routes signals by blocking them in all threads but one: this thread takes none.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  const int problem = pthread_create(&thread, &attributes, run_agent_thread, nullptr);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  if (problem != 0) die("cannot start the agent's thread: %s", strerror(problem));
}

// Connects and hands the first region over. Returns the accepted connection, or does not return.
int connect_first() {
  const Settings& s = settings();
  static HandOffResult result;
  for (int attempt = 0; attempt < kFirstRetries; ++attempt) {
    if (attempt > 0) sleep_before_retry();
    const int fd = connect_to_daemon();
    if (fd < 0) {
      if (attempt > 0) continue;
      die("no ballastd listens on %s (%s); start ballastd first, or point --run-dir or "
          "BALLAST_RUN_DIR at the running one's directory",
          s.socket, strerror(errno));
    }
    hand_off(fd, 1, kFirstVerdictMs, result);
    if (result.verdict == Verdict::kAccepted) return fd;
    if (result.verdict == Verdict::kRefused) die("%s", result.text);
    close(fd);
  }
  die("ballastd on %s closed the connection before it took VM '%s'; see ballastd's log", s.socket,
      s.name);
}

}  // namespace

void open_link() {
  wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd < 0) die("cannot make an eventfd: %s", strerror(errno));
  link_fd = connect_first();
  pthread_atfork(nullptr, nullptr, forked_in_child);
  forget_environment();
  region_count.store(1, std::memory_order_release);
  start_agent_thread();
}

bool announce_region(char* text, size_t text_bytes) {
  pthread_mutex_lock(&request_lock);
  request = Request::kWaiting;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(wake_fd, &one, sizeof(one));
  while (request == Request::kWaiting) pthread_cond_wait(&request_done, &request_lock);
  const bool accepted = request == Request::kAccepted;
  request = Request::kNone;
  if (!accepted) snprintf(text, text_bytes, "%s", request_text);
  pthread_mutex_unlock(&request_lock);
  return accepted;
}

void send_on_link(const void* message, size_t bytes) {
  send(link_fd, message, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void forked_in_child() {
  inert.store(true, std::memory_order_relaxed);
  // A copy of the connection would hide QEMU's death from the daemon, one of the userfaultfd would
  // outlive it.
  close(link_fd);
  close(userfault_fd);
}

void lock_mappings() { pthread_mutex_lock(&mappings); }
void unlock_mappings() { pthread_mutex_unlock(&mappings); }

}  // namespace ballast::agent
