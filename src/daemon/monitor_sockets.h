// The monitor (QMP) sockets that ballast-qemu gives its QEMUs: RUN_DIR/qmp/NAME.PID.sock. QEMU
// leaves the file behind when it is killed, possibly before this daemon heard of it or while none
// ran. Any thread.
#pragma once

#include <set>
#include <string>

namespace ballast::daemon {

// Removes those whose process is gone and on which nobody answers, except `in_use`: a QEMU that
// became a daemon has another process number than its socket's name says, and serves one client at
// a time. Looks only at what lies in the directory; never follows a path that an agent named.
void remove_stale_monitor_sockets(const std::string& run_dir, const std::set<std::string>& in_use);

}  // namespace ballast::daemon
