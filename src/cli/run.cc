#include "cli/run.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "proto/client.h"
#include "proto/control_requests.h"
#include "proto/run_dir.h"

namespace ballast::cli {

namespace {

constexpr const char* kLauncher = "ballast-qemu";

// Beside this program, so that a build tree and an installation both work.
Result<std::string> find_launcher() {
  std::error_code problem;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", problem);
  if (problem) return Error{"cannot tell where this program is: " + problem.message()};
  const std::string path = (self.parent_path() / kLauncher).string();
  if (access(path.c_str(), X_OK) == 0) return path;
  return system_error(fmt::format("{} is missing or cannot be executed; it belongs beside {}", path,
                                  self.string()));
}

Status ask_for_room(const VmSpec& spec, const std::string& run_dir) {
  nlohmann::json request = proto::to_json(spec);
  request["op"] = "admit";
  const auto reply = proto::call(run_dir, request);
  if (!reply) return reply.error();
  return Done{};
}

std::string text_unless(uint64_t none, uint64_t bytes) {
  return bytes == none ? std::string() : std::to_string(bytes);
}

}  // namespace

std::vector<std::pair<std::string, std::string>> vm_environment(const VmSpec& spec,
                                                                const std::string& run_dir) {
  const Allocation& allocation = spec.allocation;
  // All are set, if need be to nothing: what the caller's environment holds is not this VM's.
  return {{"BALLAST_RUN_DIR", run_dir},
          {"BALLAST_SOCKET", proto::agent_socket_path(run_dir)},
          {"BALLAST_VM_NAME", spec.name},
          {"BALLAST_VM_MEMORY", std::to_string(spec.configured_bytes)},
          {"BALLAST_VM_MIN", std::to_string(allocation.min_bytes)},
          {"BALLAST_VM_LIMIT", text_unless(kNoLimit, allocation.limit_bytes)},
          {"BALLAST_VM_SHARES", format_shares(allocation.shares)},
          {"BALLAST_VM_BALLOON_MAX", text_unless(kDefaultBalloonMax, allocation.balloon_max_bytes)},
          {"BALLAST_VM_SALT", spec.salt},
          {"BALLAST_VM_PSHARE", spec.share_enable ? "1" : "0"},
          {"BALLAST_VM_UUID", spec.uuid}};
}

std::vector<std::string> qemu_arguments(const RunArguments& arguments) {
  std::vector<std::string> words = arguments.qemu;
  const bool has_memory = std::any_of(words.begin(), words.end(), [](const std::string& word) {
    return word == "-m" || word == "--m";
  });
  if (!has_memory) {
    words.push_back("-m");
    words.push_back(fmt::format("{}M", arguments.spec.configured_bytes >> 20));
  }
  return words;
}

Error run(const RunArguments& arguments, const std::string& run_dir) {
  // QEMU may change its working directory, and lives longer than this shell's.
  std::error_code problem;
  const std::string directory = std::filesystem::absolute(run_dir, problem).string();
  if (problem) return Error{fmt::format("--run-dir {}: {}", run_dir, problem.message())};
  const auto launcher = find_launcher();
  if (!launcher) return launcher.error();
  if (auto room = ask_for_room(arguments.spec, directory); !room) return room.error();
  for (const auto& [name, value] : vm_environment(arguments.spec, directory)) {
    if (setenv(name.c_str(), value.c_str(), 1) != 0) return system_error("cannot set " + name);
  }
  const std::vector<std::string> words = qemu_arguments(arguments);
  std::vector<char*> argv{const_cast<char*>(launcher->c_str())};
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  execv(launcher->c_str(), argv.data());
  return system_error(fmt::format("cannot execute {}", *launcher));
}

}  // namespace ballast::cli
