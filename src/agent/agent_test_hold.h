// AgentHold: stops the agent's thread of a test's process (by ptrace) where the test wants it,
// while the other threads, the guest, go on. The thread goes on when this is destroyed.
#pragma once

#include <sys/types.h>

namespace ballast::agent_test {

class AgentHold {
 public:
  explicit AgentHold(pid_t process);
  ~AgentHold();
  AgentHold(const AgentHold&) = delete;
  AgentHold& operator=(const AgentHold&) = delete;

  // False: this host forbids it, and the thread was not stopped.
  bool holds() const { return thread_ > 0; }
  // Lets it go on until it is about to make an ioctl of this kind.
  void go_on_until_ioctl(unsigned long request);

 private:
  void go_on_until_stop(int how);

  pid_t thread_ = 0;
  bool stopped_ = false;
};

}  // namespace ballast::agent_test
