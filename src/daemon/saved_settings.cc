#include "daemon/saved_settings.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "daemon/config.h"
#include "machine/linux/unique_fd.h"

namespace ballast::daemon {

namespace {

using nlohmann::json;

Status replace_file(const std::string& path, const std::string& text) {
  std::error_code problem;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), problem);
  const std::string fresh = path + ".new";
  const linux_machine::UniqueFd file(
      open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!file.valid()) return system_error("write " + fresh);
  const ssize_t written = write(file.get(), text.data(), text.size());
  if (written != static_cast<ssize_t>(text.size()) || fsync(file.get()) != 0 ||
      rename(fresh.c_str(), path.c_str()) != 0) {
    return system_error("write " + path);
  }
  return Done{};
}

json or_null(uint64_t number) { return number == kNoLimit ? json() : json(number); }

// False when the member is there but no number, nor null where `none` allows it.
bool read_number(const json& from, const char* name, bool none, uint64_t& into) {
  const auto member = from.find(name);
  if (member == from.end()) return false;
  if (none && member->is_null()) {
    into = kNoLimit;
    return true;
  }
  if (!member->is_number_unsigned()) return false;
  into = member->get<uint64_t>();
  return true;
}

}  // namespace

Status SavedOptions::load(Options& options) {
  if (access(path_.c_str(), F_OK) != 0) return Done{};
  Config config;
  config.options = options;
  BALLAST_TRY_STATUS(read_config_file(path_, config));
  // Saved is what differs: what the file says of defaults needs no line.
  for (const OptionInfo& info : all_options()) {
    const std::string value = *get_option(config.options, info.name);
    if (value != *get_option(options, info.name)) set_[std::string(info.name)] = value;
  }
  options = config.options;
  return Done{};
}

Status SavedOptions::save(std::string_view name, std::string_view value) {
  set_[std::string(name)] = value;
  std::string text =
      "# Set by `ballast options`. Read after the configuration file, over what it says.\n"
      "[options]\n";
  for (const auto& [option, setting] : set_) {
    text += fmt::format("\"{}\" = \"{}\"\n", option, setting);
  }
  return replace_file(path_, text);
}

std::optional<Allocation> SavedAllocations::load(const std::string& vm,
                                                 uint64_t configured_bytes) const {
  std::ifstream file(path_of(vm));
  std::stringstream text;
  text << file.rdbuf();
  const json saved = json::parse(text.str(), nullptr, false);
  if (!saved.is_object() || !saved.contains("shares") || !saved["shares"].is_string()) return {};
  Allocation allocation;
  const auto shares = parse_shares(saved["shares"].get_ref<const std::string&>());
  if (!shares || !read_number(saved, "min_bytes", false, allocation.min_bytes) ||
      !read_number(saved, "limit_bytes", true, allocation.limit_bytes) ||
      !read_number(saved, "balloon_max_bytes", true, allocation.balloon_max_bytes)) {
    return {};
  }
  allocation.shares = *shares;
  if (!check_allocation(vm, allocation, configured_bytes)) return {};
  return allocation;
}

Status SavedAllocations::save(const std::string& vm, const Allocation& allocation) const {
  const json saved = {{"min_bytes", allocation.min_bytes},
                      {"limit_bytes", or_null(allocation.limit_bytes)},
                      {"shares", format_shares(allocation.shares)},
                      {"balloon_max_bytes", or_null(allocation.balloon_max_bytes)}};
  return replace_file(path_of(vm), saved.dump() + "\n");
}

void SavedAllocations::remove(const std::string& vm) const { unlink(path_of(vm).c_str()); }

}  // namespace ballast::daemon
