// VmProcess: the QEMU process behind an agent's connection, held by pidfd so that a recycled PID is
// never meant. Any thread; the calls are single system calls.
#pragma once

#include <sys/types.h>

#include "base/result.h"
#include "machine/linux/unique_fd.h"

namespace ballast::linux_machine {

class VmProcess {
 public:
  // The peer of a connected Unix socket, as the kernel noted it at connect().
  static Result<VmProcess> of_peer(int socket_fd);
  static Result<VmProcess> of_pid(pid_t pid);

  pid_t pid() const { return pid_; }
  int fd() const { return fd_.get(); }  // readable once the process has exited
  bool is_alive() const;
  void freeze() const;  // SIGSTOP: until an operator, or thaw(), continues it
  void thaw() const;

 private:
  void signal(int number) const;

  pid_t pid_ = 0;
  UniqueFd fd_;
};

}  // namespace ballast::linux_machine
