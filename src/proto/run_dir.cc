#include "proto/run_dir.h"

#include <cstdlib>

namespace ballast::proto {

std::string default_run_dir() {
  const char* from_environment = std::getenv(kRunDirVariable);
  const bool is_set = from_environment != nullptr && *from_environment != '\0';
  return is_set ? from_environment : kDefaultRunDir;
}

std::string control_socket_path(const std::string& run_dir) { return run_dir + "/control.sock"; }
std::string agent_socket_path(const std::string& run_dir) { return run_dir + "/agent.sock"; }
std::string lock_path(const std::string& run_dir) { return run_dir + "/lock"; }
std::string libvirt_directory(const std::string& run_dir) { return run_dir + "/libvirt"; }

}  // namespace ballast::proto
