// ballast-qemu: a drop-in for qemu-system-x86_64 whose VM is managed by ballastd. Plans (plan.h),
// then execs QEMU.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "qemu/plan.h"

namespace ballast::qemu {
namespace {

constexpr const char* kHelp =
    R"(ballast-qemu: qemu-system-x86_64 with its memory managed by ballastd

Usage: ballast-qemu [--ballast-dry-run] QEMU-ARGUMENTS...

Takes every QEMU command line. It makes guest RAM a shared memory file, preloads libballast-agent.so, and adds an
accelerator and a virtio-balloon unless you gave your own, and a QMP socket for ballastd beside any of yours. Options
that pin or share guest RAM are refused by name. Capability probes (-version, -machine none, -device help, ...) pass
through unchanged.

  --ballast-help     this text (-help is QEMU's own)
  --ballast-dry-run  print the QEMU program and its final arguments, one per line, and do not run it

Environment (`ballast run` sets what it needs):
  BALLAST_RUN_DIR    ballastd's run directory (default /run/ballast)
  BALLAST_VM_NAME    name of the VM (default: from -name, else vm-PID)
  BALLAST_VM_MEMORY  bytes of guest memory (default: from -m)
  BALLAST_VM_MIN     bytes that are never taken back (default 0)
  BALLAST_VM_LIMIT   bytes that it never exceeds, however much is free (default: no limit)
  BALLAST_VM_SHARES  low, normal, high or a number: its weight when memory is short (default normal)
  BALLAST_VM_BALLOON_MAX
                     bytes that its balloon may take (default: the host's Mem.CtlMaxPercent)
  BALLAST_VM_SALT    equal pages are shared with VMs that have the same salt (default: none)
  BALLAST_VM_PSHARE  0: it shares no pages (default 1)
  BALLAST_VM_UUID    (default: from -uuid, else a random one that ballastd is not told)
  BALLAST_QEMU       the QEMU program (default qemu-system-x86_64, found in PATH)
)";

int fail(const std::string& text) {
  std::fprintf(stderr, "ballast: %s\n", text.c_str());
  return 1;
}

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string{} : std::string{value};
}

Environment read_environment() {
  return {variable("BALLAST_RUN_DIR"),        variable("BALLAST_SOCKET"),
          variable("BALLAST_VM_NAME"),        variable("BALLAST_VM_MEMORY"),
          variable("BALLAST_VM_MIN"),         variable("BALLAST_VM_UUID"),
          variable("BALLAST_VM_LIMIT"),       variable("BALLAST_VM_SHARES"),
          variable("BALLAST_VM_BALLOON_MAX"), variable("BALLAST_VM_SALT"),
          variable("BALLAST_VM_PSHARE")};
}

std::string random_uuid() {
  std::string uuid;
  std::ifstream("/proc/sys/kernel/random/uuid") >> uuid;
  return uuid;
}

// The agent lies beside this program (build tree) or in ../lib/ballast (installed).
Result<std::string> find_agent() {
  std::error_code problem;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", problem);
  if (problem) return Error{"/proc/self/exe: " + problem.message()};
  const auto directory = self.parent_path();
  for (const auto& path : {directory / "libballast-agent.so",
                           (directory / "../lib/ballast/libballast-agent.so").lexically_normal()}) {
    if (!std::filesystem::exists(path, problem)) continue;
    if (path.string().find_first_of(" :") != std::string::npos) {
      return Error{
          fmt::format("{}: the path holds a space or colon, which LD_PRELOAD cannot name; "
                      "install Ballast elsewhere",
                      path.string())};
    }
    return path.string();
  }
  return Error{fmt::format("libballast-agent.so is neither in {} nor in {}; install Ballast again",
                           directory.string(),
                           (directory / "../lib/ballast").lexically_normal().string())};
}

bool is_ourselves(const std::string& program) {
  std::error_code problem;
  return std::filesystem::equivalent(program, "/proc/self/exe", problem) && !problem;
}

Result<std::string> find_qemu() {
  if (const std::string chosen = variable("BALLAST_QEMU"); !chosen.empty()) {
    if (is_ourselves(chosen)) {
      return Error{"BALLAST_QEMU names ballast-qemu itself; set it to the real qemu-system-x86_64"};
    }
    return chosen;
  }
  const std::string path = variable("PATH");
  for (size_t start = 0; start <= path.size();) {
    const size_t end = std::min(path.find(':', start), path.size());
    const std::string program = path.substr(start, end - start) + "/qemu-system-x86_64";
    // ballast-qemu may be installed under QEMU's name, in front of it.
    if (access(program.c_str(), X_OK) == 0 && !is_ourselves(program)) return program;
    start = end + 1;
  }
  return Error{
      "qemu-system-x86_64 is not in PATH; install Debian's qemu-system-x86, or set "
      "BALLAST_QEMU to the program"};
}

Status prepare(const Plan& plan) {
  if (mkdir(plan.qmp_directory.c_str(), 0700) != 0 && errno != EEXIST) {
    const int error = errno;
    return Error{fmt::format("{}: {}; start ballastd first, or set BALLAST_RUN_DIR to the running "
                             "one's directory",
                             plan.qmp_directory, std::strerror(error)),
                 error};
  }
  BALLAST_TRY(std::string preload, find_agent());
  if (const std::string others = variable("LD_PRELOAD"); !others.empty()) preload += ":" + others;
  setenv("LD_PRELOAD", preload.c_str(), 1);
  for (const auto& [name, value] : plan.environment) setenv(name.c_str(), value.c_str(), 1);
  return Done{};
}

int run(std::vector<std::string> arguments) {
  const bool dry_run = !arguments.empty() && arguments[0] == "--ballast-dry-run";
  if (dry_run) arguments.erase(arguments.begin());
  if (!arguments.empty() && arguments[0] == "--ballast-help") {
    std::fputs(kHelp, stdout);
    return 0;
  }
  const auto qemu = find_qemu();
  if (!qemu) return fail(qemu.error().message);
  const Host host{real_host_files(), probe_kvm, random_uuid, getpid()};
  auto plan = make_plan(arguments, read_environment(), host);
  if (!plan) return fail(plan.error().message);
  if (dry_run) {
    std::puts(qemu->c_str());
    for (const auto& argument : plan->arguments) std::puts(argument.c_str());
    return 0;
  }
  if (!plan->note.empty()) std::fprintf(stderr, "ballast: %s\n", plan->note.c_str());
  if (plan->managed) {
    if (const auto ready = prepare(*plan); !ready) return fail(ready.error().message);
  }
  std::vector<char*> words = {const_cast<char*>(qemu->c_str())};
  for (auto& argument : plan->arguments) words.push_back(argument.data());
  words.push_back(nullptr);
  execvp(words[0], words.data());
  return fail(system_error(*qemu).message);
}

}  // namespace
}  // namespace ballast::qemu

int main(int count, char** words) { return ballast::qemu::run({words + 1, words + count}); }
