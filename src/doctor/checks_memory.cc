// How the host's own memory management gets on with ours, and the disk under the swap files.
#include <fmt/format.h>

#include "base/units.h"
#include "doctor/finding.h"

namespace ballast::doctor {

namespace {

constexpr uint64_t kMappingsWanted = 1 << 20;  // as the daemon asks for (daemon/daemon.cc)
constexpr double kPressureMax = 10;            // % of a minute in which something waited
constexpr uint64_t kSlowReadUs = 5000;

void check_host_swap(const MemoryFacts& memory, Findings& findings) {
  if (memory.swaps.empty()) {
    findings.ok("host-swap", "none");
    return;
  }
  std::string names;
  uint64_t bytes = 0;
  uint64_t used = 0;
  for (const HostSwap& swap : memory.swaps) {
    names += fmt::format("{}{}", names.empty() ? "" : ", ", swap.name);
    bytes += swap.bytes;
    used += swap.used_bytes;
  }
  findings.warn("host-swap",
                fmt::format("{}: {} of {} used{}", names, format_size(used), format_size(bytes),
                            memory.zswap ? ", behind zswap" : ""),
                "the kernel may swap guest memory a second time, behind Ballast, and then a fault "
                "waits twice",
                "swapoff -a (and take it out of /etc/fstab), or keep it for the rest of the host: "
                "sysctl -w vm.swappiness=1");
}

void check_settings(const MemoryFacts& memory, Findings& findings) {
  if (memory.mappings_max >= kMappingsWanted) {
    findings.ok("max_map_count", std::to_string(memory.mappings_max));
  } else {
    findings.warn("max_map_count", fmt::format("vm.max_map_count = {}", memory.mappings_max),
                  "every stretch of shared pages is a mapping of QEMU's: page sharing ends early",
                  fmt::format("sysctl -w vm.max_map_count={}", kMappingsWanted));
  }
  if (memory.overcommit == 2) {
    findings.warn("overcommit", "vm.overcommit_memory = 2",
                  "the kernel refuses QEMU memory while plenty is free",
                  "sysctl -w vm.overcommit_memory=0");
  } else {
    findings.ok("overcommit", fmt::format("vm.overcommit_memory = {}", memory.overcommit));
  }
  const std::string& huge = memory.shmem_huge_pages;
  if (huge == "always" || huge == "within_size" || huge == "force") {
    findings.warn("huge-pages", "of shared memory: " + huge,
                  "the kernel may fill 2 MB where Ballast gave 4 KB, beyond the budget",
                  "echo never > /sys/kernel/mm/transparent_hugepage/shmem_enabled");
  } else {
    findings.ok("huge-pages", "of shared memory: " + (huge.empty() ? "none" : huge));
  }
  if (memory.ksm == 1) {
    findings.warn("ksm", "KSM runs",
                  "it costs CPU time, does not see the memory of managed VMs, and lets all others "
                  "share with strangers; Ballast shares within salt groups",
                  "systemctl disable --now ksmtuned; echo 2 > /sys/kernel/mm/ksm/run");
  } else {
    findings.ok("ksm", "off");
  }
}

void check_pressure(const MemoryFacts& memory, Findings& findings) {
  if (!memory.pressure_percent) {
    findings.ok("pressure", "not known: this kernel has no PSI");
  } else if (*memory.pressure_percent < kPressureMax) {
    findings.ok("pressure", fmt::format("{:.0f} % over the last minute", *memory.pressure_percent));
  } else {
    findings.warn("pressure",
                  fmt::format("programs waited for memory {:.0f} % of the last minute",
                              *memory.pressure_percent),
                  "the host itself is short of memory, whatever the budget says",
                  "give ballastd less: memory = \"SIZE\" in /etc/ballast/conf.d/memory.toml");
  }
}

void check_budget(const MemoryFacts& memory, uint64_t budget_bytes, Findings& findings) {
  if (budget_bytes == 0 || memory.bytes == 0) return;
  const std::string what =
      fmt::format("{} of the host's {}", format_size(budget_bytes), format_size(memory.bytes));
  const char* const fix =
      "a smaller memory = \"SIZE\" in /etc/ballast/conf.d/memory.toml, then "
      "systemctl restart ballastd";
  if (budget_bytes > memory.bytes) {
    findings.fail("budget", what, "it promises frames that do not exist: the OOM killer decides",
                  fix);
  } else if (budget_bytes > memory.bytes / 100 * 95) {
    findings.warn("budget", what,
                  "the kernel and the QEMUs themselves need about 100 MB for each VM", fix);
  } else {
    findings.ok("budget", what);
  }
}

}  // namespace

void check_memory(const MemoryFacts& memory, uint64_t budget_bytes, std::vector<Finding>& list) {
  Findings findings(list);
  check_budget(memory, budget_bytes, findings);
  check_pressure(memory, findings);
  check_host_swap(memory, findings);
  check_settings(memory, findings);
}

void check_swap_dir(const SwapDirFacts& swap, uint64_t memory_bytes, std::vector<Finding>& list) {
  Findings findings(list);
  const char* const elsewhere =
      "name a directory on a local disk: swap_dir = \"DIR\" in /etc/ballast/conf.d/swap.toml";
  if (swap.not_permitted) {
    findings.warn("swap-dir", swap.path + " was not looked at: no permission",
                  "only root can tell whether it will do", "sudo ballast doctor");
    return;
  }
  if (!swap.error.empty()) {
    findings.fail("swap-dir", fmt::format("{}: {}", swap.path, swap.error),
                  "every VM keeps a swap file there", elsewhere);
    return;
  }
  if (swap.in_memory) {
    findings.fail("swap-dir", swap.looked_at + " is on a memory file system",
                  "memory is no place to swap to: ballastd does not start", elsewhere);
    return;
  }
  const std::string what = fmt::format(
      "{}{}, {} free", swap.path, swap.looked_at == swap.path ? "" : " (ballastd will make it)",
      format_size(swap.free_bytes));
  if (swap.free_bytes < memory_bytes / 2) {
    findings.warn("swap-dir", what,
                  "every VM reserves its memory minus its min there when it starts, or is refused",
                  elsewhere);
  } else {
    findings.ok("swap-dir", what);
  }
  if (!swap.direct_error.empty()) {
    findings.warn("swap-disk", "no direct I/O: " + swap.direct_error,
                  "swap goes through the page cache, which takes memory while it is short",
                  elsewhere);
    return;
  }
  const std::string speed =
      swap.read_us ? fmt::format("a 4 KB read takes {} us", *swap.read_us) : "speed not known";
  if (swap.rotates || (swap.read_us && *swap.read_us > kSlowReadUs)) {
    findings.warn("swap-disk", fmt::format("{}{}", swap.rotates ? "a turning disk; " : "", speed),
                  "a fault on a swapped page waits for this disk", "use an SSD or NVMe disk");
  } else {
    findings.ok("swap-disk", "direct I/O; " + speed);
  }
}

}  // namespace ballast::doctor
