#include "daemon/monitor_sockets.h"

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <filesystem>

#include "machine/linux/unique_fd.h"
#include "proto/unix_socket.h"

namespace ballast::daemon {

namespace {

// NAME.PID.sock; 0 if it is not of this form.
pid_t pid_in(const std::string& name) {
  constexpr std::string_view kEnd = ".sock";
  if (!name.ends_with(kEnd)) return 0;
  const std::string stem = name.substr(0, name.size() - kEnd.size());
  const size_t dot = stem.rfind('.');
  if (dot == std::string::npos) return 0;
  pid_t pid = 0;
  const char* const end = stem.data() + stem.size();
  const auto parsed = std::from_chars(stem.data() + dot + 1, end, pid);
  return parsed.ec == std::errc{} && parsed.ptr == end && pid > 0 ? pid : 0;
}

// The process may have another number in the namespace where it wrote its name, so both must agree.
bool is_stale(const std::string& path, pid_t pid) {
  if (kill(pid, 0) == 0 || errno != ESRCH) return false;
  const auto address = proto::unix_address(path);
  if (!address) return false;
  const linux_machine::UniqueFd socket(proto::new_unix_socket());
  return socket.valid() &&
         connect(socket.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) !=
             0 &&
         errno == ECONNREFUSED;
}

}  // namespace

void remove_stale_monitor_sockets(const std::string& run_dir, const std::set<std::string>& in_use) {
  std::error_code problem;
  for (const auto& entry : std::filesystem::directory_iterator(run_dir + "/qmp", problem)) {
    const pid_t pid = pid_in(entry.path().filename().string());
    if (pid == 0 || !entry.is_socket(problem)) continue;
    if (in_use.contains(entry.path().string())) continue;
    if (is_stale(entry.path().string(), pid)) unlink(entry.path().c_str());
  }
}

}  // namespace ballast::daemon
