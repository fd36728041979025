// The doctor: facts about a host, findings from them, and how they are told.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "doctor/host_facts.h"

namespace ballast::doctor {

enum class Grade { kOk, kWarn, kFail };

struct Finding {
  std::string check;  // a stable word such as "userfaultfd"
  Grade grade = Grade::kOk;
  std::string what;
  std::string why;  // empty when all is well
  std::string fix;  // a command, or a sentence; empty when all is well
};

// Looks at this host; takes at most a few seconds. `swap_dir` empty: the one that is configured.
// Uses SIGUSR1 meanwhile (qemu/kvm_probe.h).
HostFacts probe(const std::string& run_dir, const std::string& swap_dir);

// In the order in which they are printed.
std::vector<Finding> examine(const HostFacts& facts);

bool any_fails(std::span<const Finding> findings);
std::string to_text(std::span<const Finding> findings, bool colours);
// {"findings":[{"check","grade","what","why","fix"}…],"warnings":N,"failures":N}
std::string to_json_text(std::span<const Finding> findings);

// Parts of examine(); each adds its findings.
void check_kernel(const KernelFacts& kernel, std::vector<Finding>& findings);
void check_programs(const ProgramFacts& programs, std::vector<Finding>& findings);
void check_memory(const MemoryFacts& memory, uint64_t budget_bytes, std::vector<Finding>& findings);
void check_swap_dir(const SwapDirFacts& swap, uint64_t memory_bytes,
                    std::vector<Finding>& findings);
void check_service(const HostFacts& facts, std::vector<Finding>& findings);

// Parts of probe().
KernelFacts probe_kernel();
MemoryFacts probe_memory();
SwapDirFacts probe_swap_dir(const std::string& path);
ProgramFacts probe_programs();
ServiceFacts probe_service(const std::string& run_dir, std::string& swap_dir);

// The least of memory.max and memory.high (v2) or memory.limit_in_bytes (v1) from the cgroup that
// `cgroup_text` (/proc/PID/cgroup) names up to the root below `mounted`. limit_bytes 0: there is
// none.
CgroupLimit least_memory_limit(std::string_view cgroup_text, const std::string& mounted);

}  // namespace ballast::doctor
