// Config: how ballastd was told to run: defaults, then the configuration files, then the command
// line. One table (config.cc) knows every key.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "machine/vm_control.h"
#include "model/options.h"
#include "web/web_config.h"

namespace ballast::daemon {

inline constexpr const char* kConfigDirectory = "/etc/ballast";
// Its members may look at everything through the control socket, where the host has such a group.
inline constexpr const char* kDefaultGroup = "ballast";

struct Config {
  uint64_t memory_bytes = 0;  // 0: what the host has minus a reserve
  std::string run_dir;        // empty: proto::default_run_dir()
  std::string swap_dir = "/var/lib/ballast/swap";
  std::string state_dir;  // where options set at run time are kept; empty: the swap directory
  std::string group;      // that must exist; empty: kDefaultGroup, if it does
  machine::Severity log_level = machine::Severity::kInfo;
  Options options;
  web::WebConfig http;
};

enum class Change { kLive, kRestart };  // what it takes for a change of the key to take effect

struct ConfigKey {
  std::string_view name;  // "TABLE.KEY" is KEY in the file's [TABLE]
  Change change;
  Status (*set)(Config& config, const std::string& text);  // leaves it alone on refusal
  std::string (*get)(const Config& config);                // as set() takes it
};
// All but [options], which model/options.h knows.
std::span<const ConfigKey> config_keys();

// Reads a TOML file over `config`. All that is wrong is told, a line for each, "FILE:LINE: what";
// `config` is of no use then.
Status read_config_file(const std::string& path, Config& config);

// A directory: its ballast.toml and then its conf.d/*.toml by name, later ones win, and what is not
// there says nothing. Anything else: that file, which must be there. Returns the files read.
Result<std::vector<std::string>> read_config(const std::string& path, Config& config);

// Empty keys become what they stand for.
Status fill_defaults(Config& config);

// The default budget: the host's memory minus what a Linux host and its QEMUs need beside guest
// RAM.
Result<uint64_t> default_budget_bytes();

Result<machine::Severity> parse_log_level(const std::string& text);

}  // namespace ballast::daemon
