// A Unix address from a path, or why the path cannot be one. Internal to proto and its users on the
// daemon's side.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <string>

#include "base/result.h"

namespace ballast::proto {

Result<sockaddr_un> unix_address(const std::string& path);

// A new stream socket, close-on-exec and non-blocking; −1 and errno on failure.
int new_unix_socket();

}  // namespace ballast::proto
