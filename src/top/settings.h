// What the user of `ballast top` chose: columns and their order, sorting, delay. Kept in top.toml
// by the key W.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace ballast::top {

inline constexpr double kDelaySecondsMin = 0.5;
inline constexpr double kDelaySecondsMax = 3600;

struct Settings {
  Settings();                       // the defaults
  std::vector<std::string> fields;  // names of fields.h, in the order of the columns
  std::string sort = "NAME";        // NAME, or one of all fields; numbers: the largest first
  bool reverse = false;
  double delay_seconds = 2;
  bool only_vms = false;
  bool operator==(const Settings&) const = default;
};

// Refuses what it does not know, naming line and key. `path` is for the error only.
Result<Settings> parse_settings(std::string_view text, const std::string& path);
std::string format_settings(const Settings& settings);

// $XDG_CONFIG_HOME/ballast/top.toml, else ~/.config/ballast/top.toml; an error when there is no
// home either.
Result<std::string> settings_path();
// The defaults when there is no such file.
Result<Settings> load_settings(const std::string& path);
// Whole or not at all; makes the directory.
Status save_settings(const Settings& settings, const std::string& path);

}  // namespace ballast::top
