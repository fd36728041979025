// SIGHUP: the configuration is read anew; what systemd is told meanwhile.
#include "daemon/daemon.h"

namespace ballast::daemon {

namespace {

// Of one line, for the log.
std::string in_one_line(std::string text) {
  for (char& c : text) {
    if (c == '\n') c = ';';
  }
  return text;
}

}  // namespace

void Daemon::tell_service_manager() {
  service_manager_.status(fmt::format("{} VM{}, state {}", vms_.size(), vms_.size() == 1 ? "" : "s",
                                      engine::name_of(host_->state())));
}

void Daemon::reload() {
  service_manager_.reloading();
  if (const Status done = reload_config(); !done) {
    log_.add(
        machine::Severity::kError, "", "config.refused",
        "configuration not reloaded, nothing has changed: " + in_one_line(done.error().message));
  }
  service_manager_.ready();
}

Status Daemon::reload_config() {
  BALLAST_TRY(const Config fresh, reread_());
  Options options = fresh.options;
  SavedOptions saved(config_.state_dir);
  BALLAST_TRY_STATUS(saved.load(options));

  // Nothing is refused from here on.
  saved_options_ = std::move(saved);
  std::vector<std::string> changed;
  for (const ConfigKey& key : config_keys()) {
    const std::string value = key.get(fresh);
    if (value == key.get(config_)) continue;
    if (key.change == Change::kLive) {
      if (key.set(config_, value)) changed.push_back(fmt::format("{} = {}", key.name, value));
      continue;
    }
    log_.add(machine::Severity::kWarning, "", "config.needs-restart",
             fmt::format("{} = {} takes effect when ballastd is restarted; until then it is {}",
                         key.name, value, key.get(config_)));
  }
  log_.set_least_printed(config_.log_level);
  const Options before = host_->options();
  for (const OptionInfo& option : all_options()) {
    const std::string value = *get_option(options, option.name);
    if (const std::string filed = *get_option(fresh.options, option.name); filed != value) {
      log_.add(machine::Severity::kInfo, "", "config.overridden",
               fmt::format("{} stays {}, as set by `ballast options` (the files say {}); remove "
                           "its line from {} to let the files decide",
                           option.name, value, filed, saved_options_.path()));
    }
    if (value == *get_option(before, option.name)) continue;
    if (host_->set_option(option.name, value)) {
      changed.push_back(fmt::format("{} = {}", option.name, value));
    }
  }
  if (host_->options() != before) tell_vms_options();
  log_.add(machine::Severity::kInfo, "", "config.reloaded",
           changed.empty() ? "configuration reloaded, nothing has changed"
                           : fmt::format("configuration reloaded: {}", fmt::join(changed, ", ")));
  return Done{};
}

}  // namespace ballast::daemon
