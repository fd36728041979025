// Asks programs, systemd and the daemon.
#include <grp.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "doctor/doctor.h"
#include "doctor/run_program.h"
#include "proto/client.h"
#include "proto/report_json.h"
#include "qemu/kvm_probe.h"

namespace ballast::doctor {

namespace {

constexpr const char* kDefaultGroup = "ballast";
constexpr const char* kCgroups = "/sys/fs/cgroup";

std::string text_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::filesystem::path own_directory() {
  std::error_code problem;
  return std::filesystem::read_symlink("/proc/self/exe", problem).parent_path();
}

// The first of these that exists; empty: none.
std::string first_existing(const std::vector<std::filesystem::path>& paths) {
  std::error_code problem;
  for (const auto& path : paths) {
    if (std::filesystem::exists(path, problem)) return path.lexically_normal().string();
  }
  return {};
}

// The agent holds "libballast-agent X.Y.Z" (agent/settings.cc); loading it to ask would start it.
std::string version_in(const std::string& path) {
  constexpr std::string_view kMark = "libballast-agent version ";
  const std::string bytes = text_of(path);
  const size_t at = bytes.find(kMark);
  if (at == std::string::npos) return {};
  const size_t begin = at + kMark.size();
  return bytes.substr(begin, bytes.find('\0', begin) - begin);
}

void probe_qemu(ProgramFacts& programs) {
  const char* chosen = std::getenv("BALLAST_QEMU");
  programs.qemu_path =
      chosen != nullptr && *chosen != '\0' ? chosen : find_program("qemu-system-x86_64");
  if (programs.qemu_path.empty()) return;
  // "QEMU emulator version 7.2.22 (Debian ...)"
  const Ran version = run_program({programs.qemu_path, "-version"});
  constexpr std::string_view kVersion = " version ";
  const size_t at = version.output.find(kVersion);
  if (version.status != 0 || at == std::string::npos) return;
  std::istringstream words(version.output.substr(at + kVersion.size()));
  words >> programs.qemu_version;
  std::sscanf(programs.qemu_version.c_str(), "%d.%d", &programs.qemu_major, &programs.qemu_minor);
  const Ran devices = run_program({programs.qemu_path, "-device", "help"});
  programs.qemu_has_balloon = devices.output.find("\"virtio-balloon-pci\"") != std::string::npos;
}

void probe_unit(ServiceFacts& service) {
  service.systemd = access("/run/systemd/system", F_OK) == 0;
  if (!service.systemd) return;
  const Ran shown = run_program({"systemctl", "show", "ballastd.service", "--property",
                                 "LoadState,ActiveState,UnitFileState"});
  std::istringstream lines(shown.output);
  for (std::string line; std::getline(lines, line);) {
    const size_t equals = line.find('=');
    if (equals == std::string::npos) continue;
    const std::string value = line.substr(equals + 1);
    if (line.starts_with("LoadState=")) service.unit_load = value;
    if (line.starts_with("ActiveState=")) service.unit_active = value;
    if (line.starts_with("UnitFileState=")) service.unit_enabled = value;
  }
}

// What `ballastd --check-config` says, and the swap directory and the group that it tells.
void probe_config(ServiceFacts& service, std::string& swap_dir) {
  const std::string program = [] {
    const auto here = own_directory();
    const std::string near = first_existing({here / "ballastd", here / "../sbin/ballastd"});
    return near.empty() ? find_program("ballastd") : near;
  }();
  service.daemon_found = !program.empty();
  if (!service.daemon_found) return;
  const Ran checked = run_program({program, "--check-config"});
  if (checked.status != 0) {
    service.config_error =
        checked.output.empty() ? program + " --check-config does not end well" : checked.output;
    return;
  }
  constexpr std::string_view kSwapDir = "swap_dir = ";
  constexpr std::string_view kGroup = "group = ";
  std::istringstream lines(checked.output);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(kGroup)) service.group = line.substr(kGroup.size());
    if (swap_dir.empty() && line.starts_with(kSwapDir)) swap_dir = line.substr(kSwapDir.size());
  }
}

uint64_t open_files_max(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/limits");
  constexpr std::string_view kOpenFiles = "Max open files";
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(kOpenFiles)) continue;
    std::istringstream words(line.substr(kOpenFiles.size()));
    std::string soft;
    words >> soft;
    return soft == "unlimited" ? UINT64_MAX : std::strtoull(soft.c_str(), nullptr, 10);
  }
  return 0;
}

void add_limit(ServiceFacts& service, std::string who, pid_t pid, uint64_t needed_bytes) {
  CgroupLimit limit =
      least_memory_limit(text_of("/proc/" + std::to_string(pid) + "/cgroup"), kCgroups);
  limit.who = std::move(who);
  limit.needed_bytes = needed_bytes;
  service.limits.push_back(std::move(limit));
}

void probe_daemon(ServiceFacts& service) {
  const auto version = proto::call(service.run_dir, {{"op", "version"}});
  if (!version) {
    service.daemon_error = version.error().message;
    service.not_permitted =
        version.error().system_error == EACCES || version.error().system_error == EPERM;
    return;
  }
  service.daemon_answers = true;
  service.daemon_version = version->value("version", "");
  const auto pid = version->value("pid", 0);
  service.open_files_max = open_files_max(pid);
  const auto reply = proto::call(service.run_dir, {{"op", "host"}});
  if (!reply) return;
  const auto host = proto::host_report_from_json(reply->value("host", nlohmann::json::object()));
  if (!host) return;
  service.budget_bytes = host->budget_bytes;
  // Guest RAM is QEMU's to its cgroup; tables, caches and shared frames are the daemon's, and
  // seldom half of all.
  add_limit(service, "ballastd", pid, host->budget_bytes / 2);
  for (const VmReport& vm : host->vms) {
    add_limit(service, vm.spec.name, vm.pid, vm.spec.configured_bytes);
  }
}

}  // namespace

CgroupLimit least_memory_limit(std::string_view cgroup_text, const std::string& mounted) {
  CgroupLimit least;
  const auto look = [&least](const std::string& file) {
    std::ifstream in(file);
    uint64_t bytes = 0;
    // "max" is no number; version 1 says so with one beyond all memory.
    if (!(in >> bytes) || bytes >= uint64_t{1} << 60) return;
    if (least.limit_bytes != 0 && bytes >= least.limit_bytes) return;
    least.limit_bytes = bytes;
    least.path = file;
  };
  std::istringstream lines{std::string(cgroup_text)};
  for (std::string line; std::getline(lines, line);) {
    const size_t path_at = line.find(":/");
    if (path_at == std::string::npos) continue;
    const bool unified = line.starts_with("0::");
    if (!unified && line.find(":memory:") == std::string::npos) continue;
    const std::string root = unified ? mounted : mounted + "/memory";
    for (std::string at = line.substr(path_at + 1); at.size() > 1; at.resize(at.rfind('/'))) {
      for (const char* file : {"/memory.max", "/memory.high", "/memory.limit_in_bytes"}) {
        look(root + at + file);
      }
    }
  }
  return least;
}

ProgramFacts probe_programs() {
  ProgramFacts programs;
  programs.own_version = BALLAST_VERSION;
  probe_qemu(programs);
  const qemu::KvmProbe kvm = qemu::probe_kvm();
  programs.kvm_usable = kvm.usable;
  programs.kvm_error = kvm.reason;
  const auto here = own_directory();
  programs.launcher_path = first_existing({here / "ballast-qemu"});
  programs.agent_path =
      first_existing({here / "libballast-agent.so", here / "../lib/ballast/libballast-agent.so"});
  if (!programs.agent_path.empty()) programs.agent_version = version_in(programs.agent_path);
  return programs;
}

ServiceFacts probe_service(const std::string& run_dir, std::string& swap_dir) {
  ServiceFacts service;
  service.run_dir = run_dir;
  service.group = kDefaultGroup;
  probe_config(service, swap_dir);
  if (getgrnam(service.group.c_str()) == nullptr) service.group.clear();
  probe_unit(service);
  probe_daemon(service);
  return service;
}

HostFacts probe(const std::string& run_dir, const std::string& swap_dir) {
  HostFacts facts;
  std::string directory = swap_dir;
  facts.kernel = probe_kernel();
  facts.memory = probe_memory();
  facts.service = probe_service(run_dir, directory);
  facts.swap_dir = probe_swap_dir(directory.empty() ? "/var/lib/ballast/swap" : directory);
  facts.programs = probe_programs();
  return facts;
}

}  // namespace ballast::doctor
