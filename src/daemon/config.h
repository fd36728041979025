// Config: how ballastd was told to run: defaults, then the configuration file, then the command
// line.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "machine/vm_control.h"
#include "model/options.h"

namespace ballast::daemon {

struct Config {
  uint64_t memory_bytes = 0;  // 0: what the host has minus a reserve
  std::string run_dir;
  std::string swap_dir = "/var/lib/ballast/swap";
  std::string state_dir;  // where options set at run time are kept; empty: the swap directory
  machine::Severity log_level = machine::Severity::kInfo;
  Options options;
};

// Reads a TOML file over `config`. Errors name file and line.
Status read_config_file(const std::string& path, Config& config);

// The default budget: the host's memory minus what a Linux host and its QEMUs need beside guest
// RAM.
Result<uint64_t> default_budget_bytes();

Result<machine::Severity> parse_log_level(const std::string& text);

}  // namespace ballast::daemon
