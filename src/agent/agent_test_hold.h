// AgentHold: stops the agent's thread of a test's process (by ptrace) where the test wants it,
// while the other threads, the guest, go on. The thread goes on when this is destroyed.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>

namespace ballast::agent_test {

class AgentHold {
 public:
  explicit AgentHold(pid_t process);
  ~AgentHold();
  AgentHold(const AgentHold&) = delete;
  AgentHold& operator=(const AgentHold&) = delete;

  // False: this host forbids it, and the thread was not stopped.
  bool holds() const { return thread_ > 0; }
  // Lets it go on until it is about to make this system call, or this ioctl.
  void go_on_until(long system_call);
  void go_on_until_ioctl(unsigned long request);

 private:
  void go_on_until_stop(int how);
  void go_on_until(const std::function<bool(uint64_t call, uint64_t second)>& wanted);

  pid_t thread_ = 0;
  bool stopped_ = false;
};

}  // namespace ballast::agent_test
