// The run directory: where a daemon and those who talk to it meet.
//
//   RUN_DIR/control.sock   the command line and other tools (control.h)
//   RUN_DIR/agent.sock     agents inside QEMU (agent_wire.h)
//   RUN_DIR/lock           held by the one daemon of this directory
//   RUN_DIR/libvirt/UUID   parameters of a libvirt domain that is being started (src/libvirt)
#pragma once

#include <string>

namespace ballast::proto {

inline constexpr const char* kDefaultRunDir = "/run/ballast";
inline constexpr const char* kRunDirVariable = "BALLAST_RUN_DIR";

// $BALLAST_RUN_DIR when it is set and not empty, else /run/ballast.
std::string default_run_dir();

std::string control_socket_path(const std::string& run_dir);
std::string agent_socket_path(const std::string& run_dir);
std::string lock_path(const std::string& run_dir);
std::string libvirt_directory(const std::string& run_dir);

}  // namespace ballast::proto
