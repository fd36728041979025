#include "daemon/config.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include "base/units.h"

namespace ballast::daemon {

namespace {

Error at(const std::string& path, const toml::node& node, const std::string& message) {
  return Error{fmt::format("{}:{}: {}", path, node.source().begin.line, message)};
}

Status read_string(const std::string& path, const toml::node& node, const char* key,
                   std::string& into) {
  const auto value = node.value<std::string>();
  if (!node.is_string() || value->empty())
    return at(path, node, fmt::format("{} must be a text", key));
  into = *value;
  return Done{};
}

// A value as the text that an operator would have typed.
Result<std::string> as_text(const std::string& path, const toml::node& node, std::string_view key) {
  if (node.is_string()) return *node.value<std::string>();
  if (node.is_integer()) return std::to_string(*node.value<int64_t>());
  if (node.is_boolean()) return std::string(*node.value<bool>() ? "1" : "0");
  return at(path, node, fmt::format("{} must be a text or a number", key));
}

Status read_options(const std::string& path, const toml::node& node, Options& options) {
  if (!node.is_table()) return at(path, node, "options must be a table");
  for (const auto& [key, value] : *node.as_table()) {
    BALLAST_TRY(const std::string text, as_text(path, value, key.str()));
    if (const auto status = set_option(options, key.str(), text); !status) {
      return at(path, value, status.error().message);
    }
  }
  return Done{};
}

Status read_key(const std::string& path, std::string_view key, const toml::node& node,
                Config& config) {
  if (key == "memory") {
    BALLAST_TRY(const std::string text, as_text(path, node, key));
    const auto bytes = parse_size(text);
    if (!bytes) return at(path, node, "memory: " + bytes.error().message);
    config.memory_bytes = *bytes;
    return Done{};
  }
  if (key == "run_dir") return read_string(path, node, "run_dir", config.run_dir);
  if (key == "swap_dir") return read_string(path, node, "swap_dir", config.swap_dir);
  if (key == "state_dir") return read_string(path, node, "state_dir", config.state_dir);
  if (key == "options") return read_options(path, node, config.options);
  if (key == "log_level") {
    BALLAST_TRY(const std::string text, as_text(path, node, key));
    const auto level = parse_log_level(text);
    if (!level) return at(path, node, level.error().message);
    config.log_level = *level;
    return Done{};
  }
  return at(
      path, node,
      fmt::format("unknown key '{}'; known are memory, run_dir, swap_dir, state_dir, log_level and "
                  "[options]",
                  key));
}

}  // namespace

Result<machine::Severity> parse_log_level(const std::string& text) {
  if (text == "info") return machine::Severity::kInfo;
  if (text == "warning") return machine::Severity::kWarning;
  if (text == "error") return machine::Severity::kError;
  return Error{fmt::format("'{}' is not a log level; info, warning or error is needed", text)};
}

Status read_config_file(const std::string& path, Config& config) {
  std::ifstream file(path);
  if (!file) return system_error("configuration file " + path);
  std::stringstream text;
  text << file.rdbuf();
  const auto parsed = toml::parse(text.str(), path);
  if (!parsed) {
    return Error{fmt::format("{}:{}: {}", path, parsed.error().source().begin.line,
                             parsed.error().description())};
  }
  for (const auto& [key, node] : parsed.table()) {
    BALLAST_TRY_STATUS(read_key(path, key.str(), node, config));
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
