// Parameters of a VM that libvirt starts: what ballast-libvirt-hook (src/libvirt) left for it in
// RUN_DIR/libvirt/UUID. Pure but for the file.
#pragma once

#include <string>

#include "base/result.h"
#include "qemu/command_line.h"
#include "qemu/plan.h"

namespace ballast::qemu {

bool is_started_by_libvirt(const CommandLine& line);

// Fills in what the environment does not say itself. Returns what the operator should know, or
// nothing; an error when the file is not ours.
Result<std::string> add_libvirt_parameters(const CommandLine& line, const HostFiles& files,
                                           const std::string& run_dir, Environment& environment);

}  // namespace ballast::qemu
