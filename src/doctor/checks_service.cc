// The daemon, its unit, who may ask it, and limits that the system sets on it and on QEMUs.
#include <fmt/format.h>

#include "base/units.h"
#include "doctor/finding.h"

namespace ballast::doctor {

namespace {

constexpr uint64_t kOpenFilesWanted = 16384;  // about twenty for each VM

void check_config(const ServiceFacts& service, Findings& findings) {
  if (!service.daemon_found) {
    findings.fail("config", "ballastd is neither beside this program, nor in ../sbin, nor in PATH",
                  "it owns the memory of all VMs", "apt install --reinstall ballast");
  } else if (!service.config_error.empty()) {
    findings.fail("config", service.config_error, "ballastd does not start with it",
                  "mend the file, then ballastd --check-config");
  } else {
    findings.ok("config", "good");
  }
}

void check_unit(const ServiceFacts& service, Findings& findings) {
  if (!service.systemd) {
    findings.ok("unit", "systemd does not run this host: start ballastd by other means");
    return;
  }
  const std::string what =
      fmt::format("ballastd.service is {} and {}", service.unit_active, service.unit_enabled);
  if (service.unit_load != "loaded") {
    findings.warn("unit", "there is no ballastd.service",
                  "nothing starts ballastd with the host, or again when it ends",
                  "apt install --reinstall ballast");
  } else if (service.unit_active == "failed") {
    findings.fail("unit", what, "guests wait in their next fault until it runs again",
                  "journalctl -u ballastd -n 50; systemctl restart ballastd");
  } else if (service.unit_enabled == "disabled" || service.unit_enabled == "masked") {
    findings.warn("unit", what, "ballastd will not run after the next boot",
                  service.unit_enabled == "masked"
                      ? "systemctl unmask ballastd; systemctl enable --now ballastd"
                      : "systemctl enable --now ballastd");
  } else {
    findings.ok("unit", what);
  }
}

void check_daemon(const ServiceFacts& service, const std::string& own_version, Findings& findings) {
  if (service.not_permitted) {
    findings.warn("daemon", service.daemon_error, "nothing can be said about the daemon",
                  service.group.empty()
                      ? "sudo ballast doctor"
                      : fmt::format("sudo adduser $USER {}, and log in again", service.group));
  } else if (!service.daemon_answers) {
    findings.fail("daemon", service.daemon_error,
                  "no VM can start, and VMs that run wait in their next fault",
                  service.systemd ? "systemctl start ballastd" : "ballastd &");
  } else if (service.daemon_version != own_version) {
    findings.warn(
        "daemon",
        fmt::format("ballastd {} runs, this program is {}", service.daemon_version, own_version),
        "the running daemon is not the installed one",
        "systemctl restart ballastd (guests only pause)");
  } else {
    findings.ok("daemon",
                fmt::format("ballastd {} answers in {}", service.daemon_version, service.run_dir));
  }
}

void check_group(const ServiceFacts& service, Findings& findings) {
  if (service.group.empty()) {
    findings.warn("group", "the group of those who may look does not exist",
                  "only root may look at the VMs",
                  "groupadd --system ballast; systemctl restart ballastd");
  } else {
    findings.ok("group", fmt::format("members of {} may look", service.group));
  }
}

void check_limits(const ServiceFacts& service, Findings& findings) {
  if (service.open_files_max != 0 && service.open_files_max < kOpenFilesWanted) {
    findings.warn("open-files", fmt::format("ballastd may open {}", service.open_files_max),
                  "it holds about twenty files for each VM",
                  "LimitNOFILE=131072 in the unit, or ulimit -n 131072 before it is started");
  } else if (service.open_files_max != 0) {
    findings.ok("open-files", fmt::format("ballastd may open {}", service.open_files_max));
  }
  bool bites = false;
  for (const CgroupLimit& limit : service.limits) {
    if (limit.limit_bytes == 0 || limit.limit_bytes >= limit.needed_bytes) continue;
    bites = true;
    findings.warn(
        "cgroup",
        fmt::format("{} may use {} and may need {}: {}", limit.who, format_size(limit.limit_bytes),
                    format_size(limit.needed_bytes), limit.path),
        "the kernel would swap or kill it, whatever Ballast decides",
        "take the limit away: MemoryMax= and MemoryHigh= of its unit or slice");
  }
  if (!bites && !service.limits.empty()) {
    findings.ok("cgroup", "no memory limit below what ballastd and its VMs need");
  }
}

}  // namespace

void check_service(const HostFacts& facts, std::vector<Finding>& list) {
  Findings findings(list);
  check_config(facts.service, findings);
  check_unit(facts.service, findings);
  check_daemon(facts.service, facts.programs.own_version, findings);
  check_group(facts.service, findings);
  check_limits(facts.service, findings);
}

std::vector<Finding> examine(const HostFacts& facts) {
  std::vector<Finding> findings;
  check_kernel(facts.kernel, findings);
  check_programs(facts.programs, findings);
  check_memory(facts.memory, facts.service.budget_bytes, findings);
  check_swap_dir(facts.swap_dir, facts.memory.bytes, findings);
  check_service(facts, findings);
  return findings;
}

}  // namespace ballast::doctor
