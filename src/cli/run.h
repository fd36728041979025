// `ballast run`: asks the daemon for room, then becomes ballast-qemu.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "cli/arguments.h"

namespace ballast::cli {

// What ballast-qemu and the agent in QEMU are told. Sizes in bytes, decimal; empty: no limit, or
// the host's balloon maximum; no salt; a UUID that ballast-qemu makes up.
std::vector<std::pair<std::string, std::string>> vm_environment(const VmSpec& spec,
                                                                const std::string& run_dir);

// QEMU's arguments, with -m added unless the user gave it.
std::vector<std::string> qemu_arguments(const RunArguments& arguments);

// Returns only when it fails: the process is ballast-qemu otherwise.
Error run(const RunArguments& arguments, const std::string& run_dir);

}  // namespace ballast::cli
