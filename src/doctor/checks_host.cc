// The kernel and the programs.
#include <fmt/format.h>
#include <linux/userfaultfd.h>

#include <algorithm>
#include <array>

#include "doctor/finding.h"

namespace ballast::doctor {

namespace {

void check_version(const KernelFacts& kernel, Findings& findings) {
  const bool good = kernel.major > 5 || (kernel.major == 5 && kernel.minor >= 19);
  if (good) {
    findings.ok("kernel", "Linux " + kernel.release);
  } else {
    findings.fail("kernel", "Linux " + kernel.release + " is too old",
                  "before 5.19 userfaultfd cannot write-protect shared memory",
                  "boot Linux 5.19 or newer (Debian 12 has 6.1)");
  }
}

struct Feature {
  uint64_t bit;
  const char* name;
};
// What the agent asks for (agent/regions.cc).
constexpr Feature kFeatures[] = {
    {UFFD_FEATURE_PAGEFAULT_FLAG_WP, "write protection"},
    {UFFD_FEATURE_MISSING_SHMEM, "missing pages of shared memory"},
    {UFFD_FEATURE_THREAD_ID, "thread of a fault"},
    {UFFD_FEATURE_WP_HUGETLBFS_SHMEM, "write protection of shared memory"},
};

void check_userfaultfd(const KernelFacts& kernel, Findings& findings) {
  const char* const why = "guest memory is managed through userfaultfd; no VM can start without it";
  if (!kernel.userfaultfd_error.empty()) {
    const std::string what = "cannot be created: " + kernel.userfaultfd_error;
    if (kernel.root) {
      findings.fail("userfaultfd", what, why,
                    "use a kernel with CONFIG_USERFAULTFD; in a container allow the system call "
                    "userfaultfd, or pass /dev/userfaultfd in");
    } else {
      findings.warn("userfaultfd", what, "VMs started by this user would be refused",
                    "start VMs as root, or sysctl -w vm.unprivileged_userfaultfd=1");
    }
    return;
  }
  std::string missing;
  for (const Feature& feature : kFeatures) {
    if ((kernel.userfaultfd_features & feature.bit) != 0) continue;
    missing += fmt::format("{}{}", missing.empty() ? "" : ", ", feature.name);
  }
  if (missing.empty()) {
    findings.ok("userfaultfd",
                fmt::format("all features needed (of {:#x})", kernel.userfaultfd_features));
  } else {
    findings.fail(
        "userfaultfd", "lacks: " + missing, why,
        "use a kernel with CONFIG_HAVE_ARCH_USERFAULTFD_WP and CONFIG_PTE_MARKER_UFFD_WP");
  }
}

void check_access(const KernelFacts& kernel, Findings& findings) {
  if (kernel.sealing_error.empty()) {
    findings.ok("memfd", "sealing works");
  } else {
    findings.fail("memfd", "cannot be sealed: " + kernel.sealing_error,
                  "files shared with QEMU must not shrink under the daemon",
                  "use a kernel with CONFIG_MEMFD_CREATE and CONFIG_TMPFS");
  }
  if (kernel.pagemap_error.empty()) {
    findings.ok("pagemap", "readable for other processes");
  } else if (!kernel.root) {
    findings.warn("pagemap", "not looked at: " + kernel.pagemap_error,
                  "only root can tell whether the daemon may read it", "sudo ballast doctor");
  } else {
    findings.fail("pagemap", kernel.pagemap_error,
                  "which pages a guest touched is read from /proc/PID/pagemap",
                  "use a kernel with CONFIG_PROC_PAGE_MONITOR, and give the daemon CAP_SYS_PTRACE");
  }
}

void check_clock(const KernelFacts& kernel, Findings& findings) {
  constexpr std::array<const char*, 4> kSlow = {"hpet", "acpi_pm", "pit", "jiffies"};
  if (std::ranges::find(kSlow, kernel.clock_source) == kSlow.end()) {
    if (!kernel.clock_source.empty()) findings.ok("clock", kernel.clock_source);
    return;
  }
  findings.warn("clock", kernel.clock_source + " is slow to read",
                "every fault reads the clock; this one takes microseconds each time",
                "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource");
}

void check_qemu(const ProgramFacts& programs, Findings& findings) {
  const char* const install = "apt install qemu-system-x86";
  if (programs.qemu_path.empty()) {
    findings.fail("qemu", "qemu-system-x86_64 is not in PATH", "it runs the VMs", install);
    return;
  }
  if (programs.qemu_version.empty()) {
    findings.fail("qemu", programs.qemu_path + " does not tell its version",
                  "it does not work, or is another program",
                  programs.qemu_path + " -version; " + install + " --reinstall");
    return;
  }
  const std::string what = fmt::format("{} {}", programs.qemu_path, programs.qemu_version);
  const bool reports_free_pages =
      programs.qemu_major > 5 || (programs.qemu_major == 5 && programs.qemu_minor >= 1);
  if (!reports_free_pages) {
    findings.fail("qemu", what + " is too old", "free-page reporting came with QEMU 5.1", install);
  } else if (!programs.qemu_has_balloon) {
    findings.fail("qemu", what + " has no virtio-balloon-pci",
                  "guests are asked for memory through it; every VM is given one", install);
  } else {
    findings.ok("qemu", what + ", with virtio-balloon");
  }
}

}  // namespace

void check_kernel(const KernelFacts& kernel, std::vector<Finding>& list) {
  Findings findings(list);
  check_version(kernel, findings);
  check_userfaultfd(kernel, findings);
  check_access(kernel, findings);
  check_clock(kernel, findings);
}

void check_programs(const ProgramFacts& programs, std::vector<Finding>& list) {
  Findings findings(list);
  check_qemu(programs, findings);
  if (programs.kvm_usable) {
    findings.ok("kvm", "runs guests");
  } else {
    findings.warn(
        "kvm", "not usable: " + programs.kvm_error,
        "guests run in QEMU's software emulation (TCG), ten times slower or worse",
        programs.kvm_error.ends_with("Permission denied")
            ? "sudo adduser $USER kvm, and log in again"
            : "modprobe kvm_intel or kvm_amd, switch virtualisation on in the firmware; in a VM, "
              "allow nested virtualisation");
  }
  const char* const reinstall = "apt install --reinstall ballast";
  if (programs.launcher_path.empty()) {
    findings.fail("ballast-qemu", "not beside this program", "`ballast run` starts VMs with it",
                  reinstall);
  } else {
    findings.ok("ballast-qemu", programs.launcher_path);
  }
  if (programs.agent_path.empty()) {
    findings.fail(
        "agent", "libballast-agent.so is neither beside ballast-qemu nor in ../lib/ballast",
        "it hands guest memory over to the daemon; no VM can start without it", reinstall);
  } else if (programs.agent_version != programs.own_version) {
    findings.fail("agent",
                  fmt::format("{} is of version {}, this program of {}", programs.agent_path,
                              programs.agent_version.empty() ? "unknown" : programs.agent_version,
                              programs.own_version),
                  "daemon and agent may not understand each other", reinstall);
  } else {
    findings.ok("agent", fmt::format("{} {}", programs.agent_path, programs.agent_version));
  }
}

}  // namespace ballast::doctor
