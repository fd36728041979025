// Parts of agent_test: the process under test (Toucher), the daemon that the test plays
// (FakeDaemon), what it received (HandOff) and the discard bitmap. Every wait ends after ten
// seconds with a test failure.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "proto/agent_wire.h"

namespace ballast::agent_test {

using Environment = std::map<std::string, std::string>;

// Ends the test at once: nothing sensible follows a broken conversation. (GoogleTest reports the
// exception.)
void require(bool condition, const std::string& what);
bool eventually(const std::function<bool()>& condition);
bool same_file(int a, int b);

// A child process with the agent preloaded; see agent_test_toucher.c for its commands.
class Toucher {
 public:
  explicit Toucher(const Environment& environment);
  ~Toucher();
  Toucher(const Toucher&) = delete;
  Toucher& operator=(const Toucher&) = delete;

  void send(const std::string& command);
  std::string reply();
  std::string errors();  // all of stderr; after wait_exit
  int wait_exit();
  bool running();
  bool mapped(uint64_t address);  // /proc/PID/pagemap bit 63
  // Of the mappings that it has within the range, as /proc/PID/maps counts them.
  size_t mappings(uint64_t address, uint64_t bytes);
  int pid() const { return pid_; }
  int output() const { return output_; }  // readable when there is a reply

 private:
  int pid_ = -1;
  int input_ = -1;
  int output_ = -1;
  int error_ = -1;
};

struct Fault {
  uint64_t address = 0;
  bool sealed = false;
};

struct HandOff {
  nlohmann::json json;
  std::vector<int> fds;

  HandOff() = default;
  HandOff(HandOff&& other) noexcept;
  HandOff& operator=(HandOff&& other) noexcept;
  ~HandOff() { close_all(); }
  void close_all();

  uint64_t base(size_t region) const { return json[region]["base_host_virt_addr"]; }
  bool has_fault(int timeout_ms) const;
  Fault next_fault() const;
  void install_zero(uint64_t address) const;
  void install(uint64_t address, const std::string& text) const;
  void protect(uint64_t address, bool on) const;
  void wake(uint64_t address, uint64_t bytes) const;
};

class FakeDaemon {
 public:
  FakeDaemon();
  ~FakeDaemon();
  FakeDaemon(const FakeDaemon&) = delete;
  FakeDaemon& operator=(const FakeDaemon&) = delete;

  Environment environment(const std::string& name, uint64_t memory_bytes) const;
  const std::string& path() const { return path_; }
  void stop_listening();
  bool someone_connects(int timeout_ms) const;
  bool connected() const { return agent_ >= 0; }
  void accept_agent();
  void drop_agent();

  HandOff read_hand_off();
  AgentMessage read_header();
  bool readable(int timeout_ms) const;
  void send_header(const AgentMessage& header, const std::vector<int>& fds = {});
  void send_accept(const std::vector<int>& fds = {});
  void send_refuse(const std::string& text);
  void send_sample(const std::vector<AgentRange>& ranges);
  // Both return the results.
  std::vector<uint32_t> share(const std::vector<AgentShareRange>& ranges);
  std::vector<uint32_t> home(const std::vector<AgentRange>& ranges);
  int release_agent();  // the connection is the caller's now
  void send_bytes(const std::string& bytes);

 private:
  std::vector<uint32_t> read_results(size_t count);

  std::string directory_;
  std::string path_;
  int listener_ = -1;
  int agent_ = -1;
};

class DiscardMap {
 public:
  DiscardMap(int fd, uint32_t pages);
  ~DiscardMap();
  DiscardMap(const DiscardMap&) = delete;
  DiscardMap& operator=(const DiscardMap&) = delete;
  std::vector<uint32_t> take();  // set bits, cleared; pending is left alone
  void clear_pending();

 private:
  size_t bytes_ = 0;
  char* mapped_ = nullptr;
};

}  // namespace ballast::agent_test
