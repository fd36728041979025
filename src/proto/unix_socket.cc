#include "proto/unix_socket.h"

#include <cstring>

namespace ballast::proto {

Result<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path ||
      path.find('\0') != std::string::npos) {
    return Error{fmt::format(
        "'{}' cannot name a socket: {} bytes, where 1 to {} are possible; choose a shorter "
        "--run-dir",
        path, path.size(), sizeof address.sun_path - 1)};
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

int new_unix_socket() { return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); }

}  // namespace ballast::proto
