#include "agent/agent_test_parts.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cinttypes>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>
#include <utility>

namespace ballast::agent_test {

namespace {

constexpr int kPatienceMs = 10'000;

bool can_read(int fd, int timeout_ms) {
  pollfd wait{fd, POLLIN, 0};
  return poll(&wait, 1, timeout_ms) == 1;
}

void read_exactly(int fd, void* into, size_t bytes) {
  auto* at = static_cast<char*>(into);
  while (bytes > 0) {
    require(can_read(fd, kPatienceMs), "nothing came");
    const ssize_t got = read(fd, at, bytes);
    require(got > 0, "the other side closed");
    at += got;
    bytes -= static_cast<size_t>(got);
  }
}

}  // namespace

void require(bool condition, const std::string& what) {
  if (!condition) throw std::runtime_error(what);
}

bool eventually(const std::function<bool()>& condition) {
  for (int tries = 0; tries < kPatienceMs / 5; ++tries) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

bool same_file(int a, int b) {
  struct stat x {};
  struct stat y {};
  return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

Toucher::Toucher(const Environment& environment) {
  int in[2];
  int out[2];
  int err[2];
  require(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0 && pipe2(err, O_CLOEXEC) == 0,
          "pipe2");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in[0], 0);
  posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  posix_spawn_file_actions_adddup2(&actions, err[1], 2);
  std::vector<std::string> variables = {"LD_PRELOAD=" BALLAST_TEST_AGENT};
  for (const auto& [name, value] : environment) variables.push_back(name + "=" + value);
  std::vector<char*> pointers;
  pointers.reserve(variables.size() + 1);
  for (auto& variable : variables) pointers.push_back(variable.data());
  pointers.push_back(nullptr);
  std::string program = BALLAST_TEST_TOUCHER;
  char* arguments[] = {program.data(), nullptr};
  require(posix_spawn(&pid_, program.c_str(), &actions, nullptr, arguments, pointers.data()) == 0,
          "spawn");
  posix_spawn_file_actions_destroy(&actions);
  close(in[0]);
  close(out[1]);
  close(err[1]);
  input_ = in[1];
  output_ = out[0];
  error_ = err[0];
}

Toucher::~Toucher() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  for (const int fd : {input_, output_, error_}) close(fd);
}

void Toucher::send(const std::string& command) {
  const std::string line = command + "\n";
  require(write(input_, line.data(), line.size()) == static_cast<ssize_t>(line.size()),
          "toucher gone");
}

std::string Toucher::reply() {
  std::string line;
  for (char c = 0;; line += c) {
    read_exactly(output_, &c, 1);
    if (c == '\n') return line;
  }
}

std::string Toucher::errors() {
  std::string all;
  char buffer[512];
  while (can_read(error_, 0)) {
    const ssize_t got = read(error_, buffer, sizeof(buffer));
    if (got <= 0) break;
    all.append(buffer, static_cast<size_t>(got));
  }
  return all;
}

int Toucher::wait_exit() {
  int status = 0;
  require(eventually([&] { return waitpid(pid_, &status, WNOHANG) == pid_; }),
          "toucher does not end");
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

bool Toucher::running() { return waitpid(pid_, nullptr, WNOHANG) == 0; }

bool Toucher::mapped(uint64_t address) {
  const std::string path = "/proc/" + std::to_string(pid_) + "/pagemap";
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  uint64_t entry = 0;
  const bool read_it = pread(fd, &entry, 8, static_cast<off_t>(address / 4096 * 8)) == 8;
  close(fd);
  require(read_it, "pagemap");
  return (entry >> 63) != 0;
}

size_t Toucher::mappings(uint64_t address, uint64_t bytes) {
  std::ifstream maps("/proc/" + std::to_string(pid_) + "/maps");
  size_t count = 0;
  for (std::string line; std::getline(maps, line);) {
    uint64_t first = 0;
    uint64_t last = 0;
    require(sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64, &first, &last) == 2, "maps");
    if (first < address + bytes && address < last) ++count;
  }
  return count;
}

HandOff::HandOff(HandOff&& other) noexcept
    : json(std::move(other.json)), fds(std::move(other.fds)) {
  other.fds.clear();
}

HandOff& HandOff::operator=(HandOff&& other) noexcept {
  close_all();
  json = std::move(other.json);
  fds = std::move(other.fds);
  other.fds.clear();
  return *this;
}

void HandOff::close_all() {
  for (const int fd : fds) close(fd);
  fds.clear();
}

bool HandOff::has_fault(int timeout_ms) const { return can_read(fds[0], timeout_ms); }

Fault HandOff::next_fault() const {
  uffd_msg message{};
  require(has_fault(kPatienceMs), "no fault came");
  require(read(fds[0], &message, sizeof(message)) == sizeof(message), "uffd read");
  require(message.event == UFFD_EVENT_PAGEFAULT, "not a page fault");
  return {message.arg.pagefault.address & ~uint64_t{4095},
          (message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) != 0};
}

void HandOff::install_zero(uint64_t address) const {
  uffdio_zeropage request{};
  request.range = {address, 4096};
  require(ioctl(fds[0], UFFDIO_ZEROPAGE, &request) == 0, "UFFDIO_ZEROPAGE");
}

void HandOff::install(uint64_t address, const std::string& text) const {
  alignas(4096) char page[4096] = {};
  text.copy(page, sizeof(page) - 1);
  uffdio_copy request{};
  request.dst = address;
  request.src = reinterpret_cast<uint64_t>(page);
  request.len = 4096;
  require(ioctl(fds[0], UFFDIO_COPY, &request) == 0, "UFFDIO_COPY");
}

void HandOff::protect(uint64_t address, bool on) const {
  uffdio_writeprotect request{};
  request.range = {address, 4096};
  request.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0;
  require(ioctl(fds[0], UFFDIO_WRITEPROTECT, &request) == 0, "UFFDIO_WRITEPROTECT");
}

void HandOff::wake(uint64_t address, uint64_t bytes) const {
  uffdio_range range{address, bytes};
  require(ioctl(fds[0], UFFDIO_WAKE, &range) == 0, "UFFDIO_WAKE");
}

FakeDaemon::FakeDaemon() {
  std::signal(SIGPIPE, SIG_IGN);
  char name[] = "/tmp/ballast-agent-test-XXXXXX";
  require(mkdtemp(name) != nullptr, "mkdtemp");
  directory_ = name;
  path_ = directory_ + "/agent.sock";
  listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
  require(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0, "bind");
  require(listen(listener_, 8) == 0, "listen");
}

FakeDaemon::~FakeDaemon() {
  drop_agent();
  stop_listening();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

Environment FakeDaemon::environment(const std::string& name, uint64_t memory_bytes) const {
  return {{"BALLAST_SOCKET", path_},     {"BALLAST_VM_NAME", name},
          {"BALLAST_VM_UUID", "u-1"},    {"BALLAST_VM_MEMORY", std::to_string(memory_bytes)},
          {"BALLAST_VM_MIN", "1048576"}, {"BALLAST_QMP", "/run/q.sock"}};
}

void FakeDaemon::stop_listening() {
  if (listener_ >= 0) close(listener_);
  listener_ = -1;
}

bool FakeDaemon::someone_connects(int timeout_ms) const { return can_read(listener_, timeout_ms); }

void FakeDaemon::accept_agent() {
  drop_agent();
  require(someone_connects(kPatienceMs), "no agent connects");
  agent_ = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
  require(agent_ >= 0, "accept");
}

void FakeDaemon::drop_agent() {
  if (agent_ >= 0) close(agent_);
  agent_ = -1;
}

HandOff FakeDaemon::read_hand_off() {
  std::string text(kAgentHandOffBytesMax, '\0');
  iovec body{text.data(), text.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kAgentDescriptorsMax)];
  msghdr message{};
  message.msg_iov = &body;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  require(can_read(agent_, kPatienceMs), "no hand-off came");
  const ssize_t got = recvmsg(agent_, &message, MSG_CMSG_CLOEXEC);
  require(got > 0, "the agent closed");
  text.resize(static_cast<size_t>(got));
  require(text.back() == '\n', "a hand-off ends with a newline");
  HandOff hand_off;
  hand_off.json = nlohmann::json::parse(text);
  if (const cmsghdr* part = CMSG_FIRSTHDR(&message)) {
    hand_off.fds.resize((part->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    memcpy(hand_off.fds.data(), CMSG_DATA(part), hand_off.fds.size() * sizeof(int));
  }
  return hand_off;
}

AgentMessage FakeDaemon::read_header() {
  AgentMessage header{};
  read_exactly(agent_, &header, sizeof(header));
  require(header.magic == kAgentMagic, "magic");
  return header;
}

bool FakeDaemon::readable(int timeout_ms) const { return can_read(agent_, timeout_ms); }

void FakeDaemon::send_header(const AgentMessage& header, const std::vector<int>& fds) {
  iovec body{const_cast<AgentMessage*>(&header), sizeof(header)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kAgentDescriptorsMax)] = {};
  msghdr message{};
  message.msg_iov = &body;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    memcpy(CMSG_DATA(part), fds.data(), fds.size() * sizeof(int));
  }
  require(sendmsg(agent_, &message, MSG_NOSIGNAL) == sizeof(header), "sendmsg");
}

void FakeDaemon::send_accept(const std::vector<int>& fds) {
  send_header({kAgentMagic, kAgentAccept, static_cast<uint32_t>(fds.size()), 0}, fds);
}

void FakeDaemon::send_refuse(const std::string& text) {
  send_header({kAgentMagic, kAgentRefuse, 0, static_cast<uint32_t>(text.size())});
  send_bytes(text);
}

void FakeDaemon::send_sample(const std::vector<AgentRange>& ranges) {
  const size_t bytes = ranges.size() * sizeof(AgentRange);
  send_header({kAgentMagic, kAgentSample, static_cast<uint32_t>(ranges.size()),
               static_cast<uint32_t>(bytes)});
  send_bytes(std::string(reinterpret_cast<const char*>(ranges.data()), bytes));
}

std::vector<uint32_t> FakeDaemon::read_results(size_t count) {
  const AgentMessage header = read_header();
  require(header.kind == kAgentRemapped && header.count == count && header.bytes == count * 4,
          "no results");
  std::vector<uint32_t> results(count);
  read_exactly(agent_, results.data(), header.bytes);
  return results;
}

std::vector<uint32_t> FakeDaemon::share(const std::vector<AgentShareRange>& ranges) {
  const size_t bytes = ranges.size() * sizeof(AgentShareRange);
  send_header({kAgentMagic, kAgentShare, static_cast<uint32_t>(ranges.size()),
               static_cast<uint32_t>(bytes)});
  send_bytes(std::string(reinterpret_cast<const char*>(ranges.data()), bytes));
  return read_results(ranges.size());
}

std::vector<uint32_t> FakeDaemon::home(const std::vector<AgentRange>& ranges) {
  const size_t bytes = ranges.size() * sizeof(AgentRange);
  send_header({kAgentMagic, kAgentHome, static_cast<uint32_t>(ranges.size()),
               static_cast<uint32_t>(bytes)});
  send_bytes(std::string(reinterpret_cast<const char*>(ranges.data()), bytes));
  return read_results(ranges.size());
}

int FakeDaemon::release_agent() { return std::exchange(agent_, -1); }

void FakeDaemon::send_bytes(const std::string& bytes) {
  require(
      send(agent_, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()),
      "send");
}

DiscardMap::DiscardMap(int fd, uint32_t pages)
    : bytes_(kDiscardHeaderBytes + (pages + 63) / 64 * 8) {
  void* mapped = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  require(mapped != MAP_FAILED, "mapping the discard bitmap");
  mapped_ = static_cast<char*>(mapped);
  require(reinterpret_cast<DiscardHeader*>(mapped_)->pages == pages,
          "pages in the bitmap's header");
}

DiscardMap::~DiscardMap() { munmap(mapped_, bytes_); }

std::vector<uint32_t> DiscardMap::take() {
  std::vector<uint32_t> pages;
  auto* words = reinterpret_cast<uint64_t*>(mapped_ + kDiscardHeaderBytes);
  for (uint32_t word = 0; word < (bytes_ - kDiscardHeaderBytes) / 8; ++word) {
    const uint64_t bits = std::atomic_ref<uint64_t>(words[word]).exchange(0);
    for (uint32_t bit = 0; bit < 64; ++bit) {
      if ((bits >> bit & 1) != 0) pages.push_back(word * 64 + bit);
    }
  }
  return pages;
}

void DiscardMap::clear_pending() {
  std::atomic_ref<uint32_t>(reinterpret_cast<DiscardHeader*>(mapped_)->pending).store(0);
}

}  // namespace ballast::agent_test
