// Who may look and who may change, at the control socket.
#pragma once

#include <string>

#include "base/result.h"
#include "proto/control.h"
#include "proto/line_server.h"

namespace ballast::daemon {

// Root and the daemon's own user may change; whoever else can connect may look.
proto::Access access_of(const proto::Peer& peer);

// Lets the members of the group connect. An empty name is kDefaultGroup, which need not exist: root
// alone can connect then. A group that was asked for must exist.
Status open_to_group(const std::string& socket_path, const std::string& group);

}  // namespace ballast::daemon
