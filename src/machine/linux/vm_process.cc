#include "machine/linux/vm_process.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <string>

namespace ballast::linux_machine {

namespace {

#ifndef SO_PEERPIDFD
constexpr int SO_PEERPIDFD = 77;  // Linux 6.5; NOLINT(readability-identifier-naming)
#endif

}  // namespace

Result<VmProcess> VmProcess::of_peer(int socket_fd) {
  ucred peer{};
  socklen_t length = sizeof(peer);
  if (::getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
    return system_error("ask for the agent's process");
  }
  if (peer.pid <= 0) {
    return Error{"the agent's process is not visible here; run ballastd in the same PID namespace",
                 ESRCH};
  }
  int fd = -1;
  length = sizeof(fd);
  if (::getsockopt(socket_fd, SOL_SOCKET, SO_PEERPIDFD, &fd, &length) == 0 && fd >= 0) {
    VmProcess process;
    process.pid_ = peer.pid;
    process.fd_.reset(fd);
    return process;
  }
  // Older kernels: the PID may have been recycled since connect(), but then the socket is at its
  // end and says so.
  return of_pid(peer.pid);
}

Result<VmProcess> VmProcess::of_pid(pid_t pid) {
  VmProcess process;
  process.pid_ = pid;
  process.fd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!process.fd_.valid()) return system_error("watch process " + std::to_string(pid));
  return process;
}

bool VmProcess::is_alive() const {
  pollfd watch{fd_.get(), POLLIN, 0};
  return ::poll(&watch, 1, 0) == 0;
}

void VmProcess::signal(int number) const {
  // Fails only when the process is gone, which its watcher notices by itself.
  (void)::syscall(SYS_pidfd_send_signal, fd_.get(), number, nullptr, 0);
}

void VmProcess::freeze() const { signal(SIGSTOP); }
void VmProcess::thaw() const { signal(SIGCONT); }

}  // namespace ballast::linux_machine
