#include "daemon/saved_settings.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "daemon/config.h"
#include "machine/linux/unique_fd.h"
#include "model/salt.h"

namespace ballast::daemon {

namespace {

using nlohmann::json;

Status replace_file(const std::string& path, const std::string& text) {
  std::error_code problem;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), problem);
  const std::string fresh = path + "~";  // in no VM's name
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

// Whatever is wrong with the file makes it no object.
json read_object(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  json object = json::parse(text.str(), nullptr, false);
  return object.is_object() ? object : json();
}

std::string text_or_empty(const json& object, const char* name) {
  const auto member = object.find(name);
  return member != object.end() && member->is_string() ? member->get<std::string>() : "";
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
  const json saved = read_object(path_of(vm));
  if (saved.is_null()) return {};
  Allocation allocation;
  const auto shares = parse_shares(text_or_empty(saved, "shares"));
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

SavedPowerOn::SavedPowerOn(const std::string& state_dir) : directory_(state_dir + "/power-on") {
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(directory_, none)) {
    const json saved = read_object(entry.path());
    if (saved.is_null()) continue;
    const std::string salt = text_or_empty(saved, "salt");
    const auto sharing = parse_sharing(text_or_empty(saved, "pshare"));
    // Half of what was meant may be the wrong half.
    if (!sharing || (!salt.empty() && !check_salt(salt))) continue;
    kept_[entry.path().filename()] = {text_or_empty(saved, "uuid"), {salt, *sharing}};
  }
}

PowerOn SavedPowerOn::load(const VmSpec& vm) const {
  const auto kept = kept_.find(vm.name);
  if (kept == kept_.end()) return {};
  const std::string& uuid = kept->second.uuid;
  return uuid.empty() || uuid == vm.uuid ? kept->second.power_on : PowerOn{};
}

Status SavedPowerOn::save(const VmSpec& vm, const PowerOn& power_on) {
  const std::string path = directory_ + "/" + vm.name;
  if (power_on == PowerOn{}) {
    if (unlink(path.c_str()) != 0 && errno != ENOENT) return system_error("remove " + path);
    kept_.erase(vm.name);
    return Done{};
  }
  const json saved = {
      {"uuid", vm.uuid}, {"salt", power_on.salt}, {"pshare", format_sharing(power_on.sharing)}};
  BALLAST_TRY_STATUS(replace_file(path, saved.dump() + "\n"));
  kept_[vm.name] = {vm.uuid, power_on};
  return Done{};
}

}  // namespace ballast::daemon
