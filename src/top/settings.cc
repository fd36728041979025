#include "top/settings.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include "top/fields.h"

namespace ballast::top {

namespace {

struct Place {
  const std::string& path;
  const toml::node& node;

  Error error(const std::string& message) const {
    return Error{fmt::format("{}:{}: {}", path, node.source().begin.line, message)};
  }
};

bool is_sortable(const std::string& name) { return name == "NAME" || find_field(name) != nullptr; }

Status read_fields(const Place& place, std::vector<std::string>& into) {
  const toml::array* array = place.node.as_array();
  if (array == nullptr) return place.error("fields must be a list of column names");
  into.clear();
  for (const toml::node& element : *array) {
    const auto name = element.value<std::string>();
    if (!name || find_field(*name) == nullptr) {
      return place.error(fmt::format("fields has {}, which is no column; the key f shows them all",
                                     name ? "'" + *name + "'" : "something that is no text"));
    }
    if (std::ranges::find(into, *name) == into.end()) into.push_back(*name);
  }
  return Done{};
}

Status read_bool(const Place& place, const char* key, bool& into) {
  if (!place.node.is_boolean()) return place.error(fmt::format("{} must be true or false", key));
  into = *place.node.value<bool>();
  return Done{};
}

Status read_key(const Place& place, std::string_view key, Settings& settings) {
  if (key == "fields") return read_fields(place, settings.fields);
  if (key == "reverse") return read_bool(place, "reverse", settings.reverse);
  if (key == "only_vms") return read_bool(place, "only_vms", settings.only_vms);
  if (key == "sort") {
    const auto name = place.node.value<std::string>();
    if (!name || !is_sortable(*name)) return place.error("sort must be NAME or a column's name");
    settings.sort = *name;
    return Done{};
  }
  if (key == "delay") {
    const auto seconds = place.node.value<double>();
    if (!seconds || !(*seconds >= kDelaySecondsMin && *seconds <= kDelaySecondsMax)) {
      return place.error(
          fmt::format("delay must be seconds from {} to {}", kDelaySecondsMin, kDelaySecondsMax));
    }
    settings.delay_seconds = *seconds;
    return Done{};
  }
  return place.error(
      fmt::format("unknown key '{}'; known are fields, sort, reverse, delay and only_vms", key));
}

}  // namespace

Settings::Settings() : fields(default_fields().begin(), default_fields().end()) {}

Result<Settings> parse_settings(std::string_view text, const std::string& path) {
  const auto parsed = toml::parse(text, path);
  if (!parsed) {
    return Error{fmt::format("{}:{}: {}", path, parsed.error().source().begin.line,
                             parsed.error().description())};
  }
  Settings settings;
  for (const auto& [key, node] : parsed.table()) {
    BALLAST_TRY_STATUS(read_key({path, node}, key.str(), settings));
  }
  return settings;
}

std::string format_settings(const Settings& settings) {
  std::string fields;
  for (const std::string& name : settings.fields) {
    fields += fmt::format("{}\"{}\"", fields.empty() ? "" : ", ", name);
  }
  return fmt::format(
      "# ballast top: written by its key W.\n"
      "fields = [{}]\nsort = \"{}\"\nreverse = {}\ndelay = {}\nonly_vms = {}\n",
      fields, settings.sort, settings.reverse, settings.delay_seconds, settings.only_vms);
}

Result<std::string> settings_path() {
  const char* config = std::getenv("XDG_CONFIG_HOME");
  if (config != nullptr && *config == '/') return std::string(config) + "/ballast/top.toml";
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home == '\0') {
    return Error{"neither XDG_CONFIG_HOME nor HOME is set: there is no place for top.toml"};
  }
  return std::string(home) + "/.config/ballast/top.toml";
}

Result<Settings> load_settings(const std::string& path) {
  std::error_code problem;
  if (std::filesystem::is_directory(path, problem)) return system_error(path, EISDIR);
  std::ifstream file(path);
  if (!file) {
    if (errno == ENOENT || errno == ENOTDIR) return Settings();
    return system_error(path);
  }
  std::stringstream text;
  text << file.rdbuf();
  return parse_settings(text.str(), path);
}

Status save_settings(const Settings& settings, const std::string& path) {
  std::error_code problem;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), problem);
  if (problem) return Error{fmt::format("{}: {}", path, problem.message())};
  const std::string draft = fmt::format("{}.{}", path, getpid());
  {
    std::ofstream file(draft, std::ios::trunc);
    file << format_settings(settings);
    file.close();
    if (!file) {
      const int error = errno;
      std::filesystem::remove(draft, problem);
      return system_error(draft, error);
    }
  }
  std::filesystem::rename(draft, path, problem);
  if (problem) return Error{fmt::format("{}: {}", path, problem.message())};
  return Done{};
}

}  // namespace ballast::top
