// HostFacts: what `ballast doctor` found out about a host. Plain data; sizes in bytes. A member
// named *_error is empty when the thing works, else it says why not.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ballast::doctor {

struct KernelFacts {
  std::string release;  // "6.1.0-18-amd64"
  int major = 0;
  int minor = 0;
  bool root = false;  // who asks; others see less
  std::string userfaultfd_error;
  uint64_t userfaultfd_features = 0;
  std::string sealing_error;  // memfd with seals
  std::string pagemap_error;  // of another process
  std::string clock_source;   // "tsc"
};

struct HostSwap {
  std::string name;  // "/dev/sda2", "/dev/zram0"
  uint64_t bytes = 0;
  uint64_t used_bytes = 0;
};

struct MemoryFacts {
  uint64_t bytes = 0;            // MemTotal
  uint64_t mappings_max = 0;     // vm.max_map_count
  int overcommit = 0;            // vm.overcommit_memory
  std::string shmem_huge_pages;  // the word in force: "never", "always", …; empty: not known
  int ksm = 0;                   // 1: it runs
  bool zswap = false;
  std::vector<HostSwap> swaps;
  std::optional<double> pressure_percent;  // some, over a minute; none: the kernel has no PSI
};

struct SwapDirFacts {
  std::string path;
  std::string error;
  bool not_permitted = false;  // to us; nothing below is known then
  std::string looked_at;       // the directory itself, or the nearest above it that exists
  bool in_memory = false;
  uint64_t free_bytes = 0;
  std::string direct_error;  // O_DIRECT
  bool rotates = false;
  std::optional<uint64_t> read_us;  // a 4 KB read, median
};

struct ProgramFacts {
  std::string qemu_path;     // empty: not found
  std::string qemu_version;  // "7.2.22"; empty: it does not say
  int qemu_major = 0;
  int qemu_minor = 0;
  bool qemu_has_balloon = false;
  bool kvm_usable = false;
  std::string kvm_error;
  std::string launcher_path;  // ballast-qemu
  std::string agent_path;
  std::string agent_version;
  std::string own_version;  // of this program
};

// A limit of the kernel's own on what a process and its cgroup may use.
struct CgroupLimit {
  std::string who;   // "ballastd", "web1"
  std::string path;  // where it is set
  uint64_t limit_bytes = 0;
  uint64_t needed_bytes = 0;
};

struct ServiceFacts {
  std::string run_dir;
  std::string config_error;   // what `ballastd --check-config` says; lines
  bool daemon_found = false;  // the program
  std::string group;          // that may look; empty: it does not exist
  bool daemon_answers = false;
  std::string daemon_error;
  bool not_permitted = false;  // somebody may answer, but not to us
  std::string daemon_version;
  uint64_t budget_bytes = 0;
  uint64_t open_files_max = 0;  // of the daemon; 0: not known
  bool systemd = false;         // runs this host
  std::string unit_load;        // "loaded", "not-found"
  std::string unit_active;      // "active", "failed", …
  std::string unit_enabled;     // "enabled", "disabled", …
  std::vector<CgroupLimit> limits;
};

struct HostFacts {
  KernelFacts kernel;
  MemoryFacts memory;
  SwapDirFacts swap_dir;
  ProgramFacts programs;
  ServiceFacts service;
};

}  // namespace ballast::doctor
