#include "daemon/config.h"

#include <algorithm>
#include <fstream>

#include "base/units.h"
#include "daemon/config_http.h"
#include "daemon/log_output.h"
#include "proto/run_dir.h"

namespace ballast::daemon {

namespace {

constexpr const char* kAuto = "auto";

template <std::string Config::*Member>
Status set_text(Config& config, const std::string& text) {
  if (text.empty()) return Error{"must not be empty"};
  config.*Member = text;
  return Done{};
}

template <std::string Config::*Member>
std::string get_text(const Config& config) {
  return config.*Member;
}

Status set_memory(Config& config, const std::string& text) {
  if (text == kAuto) {
    config.memory_bytes = 0;
    return Done{};
  }
  BALLAST_TRY(const uint64_t bytes, parse_size(text));
  if (bytes == 0) return Error{"0 leaves nothing for VMs; write for example 48G, or auto"};
  config.memory_bytes = bytes;
  return Done{};
}

std::string get_memory(const Config& config) {
  return config.memory_bytes == 0 ? kAuto : std::to_string(config.memory_bytes);
}

Status set_log_level(Config& config, const std::string& text) {
  BALLAST_TRY(config.log_level, parse_log_level(text));
  return Done{};
}

std::string get_log_level(const Config& config) { return name_of(config.log_level); }

constexpr ConfigKey kKeys[] = {
    {"memory", Change::kRestart, set_memory, get_memory},
    {"run_dir", Change::kRestart, set_text<&Config::run_dir>, get_text<&Config::run_dir>},
    {"swap_dir", Change::kRestart, set_text<&Config::swap_dir>, get_text<&Config::swap_dir>},
    {"state_dir", Change::kRestart, set_text<&Config::state_dir>, get_text<&Config::state_dir>},
    {"group", Change::kRestart, set_text<&Config::group>, get_text<&Config::group>},
    {"log_level", Change::kLive, set_log_level, get_log_level},
    {"http.listen", Change::kRestart, set_http_listen, get_http_listen},
    {"http.names", Change::kRestart, set_http_names, get_http_names},
    {"http.history", Change::kRestart, set_http_history, get_http_history},
};

}  // namespace

std::span<const ConfigKey> config_keys() { return kKeys; }

Result<machine::Severity> parse_log_level(const std::string& text) {
  if (text == "info") return machine::Severity::kInfo;
  if (text == "warning") return machine::Severity::kWarning;
  if (text == "error") return machine::Severity::kError;
  return Error{fmt::format("'{}' is not a log level; info, warning or error is needed", text)};
}

Status fill_defaults(Config& config) {
  if (config.run_dir.empty()) config.run_dir = proto::default_run_dir();
  if (config.state_dir.empty()) config.state_dir = config.swap_dir;
  if (config.memory_bytes == 0) {
    BALLAST_TRY(config.memory_bytes, default_budget_bytes());
  }
  return Done{};
}

Result<uint64_t> default_budget_bytes() {
  std::ifstream meminfo("/proc/meminfo");
  std::string word;
  uint64_t kilobytes = 0;
  while (meminfo >> word) {
    if (word == "MemTotal:" && meminfo >> kilobytes) break;
  }
  if (kilobytes == 0) return Error{"/proc/meminfo has no MemTotal; give --memory"};
  const uint64_t total = kilobytes * 1024;
  // A quarter, between 512 MB and 8 GB: kernel, page cache, and ~100 MB beside guest RAM in every
  // QEMU.
  const uint64_t reserve = std::clamp(total / 4, uint64_t{512} << 20, uint64_t{8} << 30);
  if (total <= reserve * 2) {
    return Error{
        fmt::format("this host has {}; too little to choose a budget by itself: give --memory",
                    format_size(total))};
  }
  return total - reserve;
}

}  // namespace ballast::daemon
