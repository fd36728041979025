// ballastd: the daemon that owns the memory of this host's VMs. See docs/man/ballastd.8.
#include <signal.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <sstream>

#include "daemon/config.h"
#include "daemon/daemon.h"
#include "daemon/saved_settings.h"

namespace {

using ballast::daemon::Config;

struct CommandLine {
  std::string memory;
  std::string run_dir;
  std::string swap_dir;
  std::string state_dir;
  std::string config = ballast::daemon::kConfigDirectory;
  std::string log_level;
  std::string http;
};

// The files that were read are added to `files`, if it is given.
ballast::Result<Config> config_from(const CommandLine& line,
                                    std::vector<std::string>* files = nullptr) {
  Config config;
  auto read = ballast::daemon::read_config(line.config, config);
  if (!read) return read.error();
  if (files != nullptr) *files = *std::move(read);
  const std::pair<const char*, const std::string*> given[] = {{"memory", &line.memory},
                                                              {"run_dir", &line.run_dir},
                                                              {"swap_dir", &line.swap_dir},
                                                              {"state_dir", &line.state_dir},
                                                              {"log_level", &line.log_level},
                                                              {"http.listen", &line.http}};
  for (const auto& [name, text] : given) {
    if (text->empty()) continue;
    const auto key = std::ranges::find(ballast::daemon::config_keys(), std::string_view(name),
                                       &ballast::daemon::ConfigKey::name);
    BALLAST_TRY_STATUS(key->set(config, *text));
  }
  BALLAST_TRY_STATUS(fill_defaults(config));
  return config;
}

// There may be several errors, each on its line.
int fail(const ballast::Error& error) {
  std::istringstream lines(error.message);
  for (std::string line; std::getline(lines, line);) fmt::print(stderr, "ballastd: {}\n", line);
  return 1;
}

int check_config(const CommandLine& line) {
  std::vector<std::string> files;
  const auto config = config_from(line, &files);
  if (!config) return fail(config.error());
  ballast::daemon::SavedOptions saved(config->state_dir);
  ballast::Options options = config->options;
  if (const auto status = saved.load(options); !status) return fail(status.error());
  fmt::print("the configuration is good: {}\n",
             files.empty() ? "no files, all defaults" : fmt::format("{}", fmt::join(files, ", ")));
  for (const ballast::daemon::ConfigKey& key : ballast::daemon::config_keys()) {
    const std::string value = key.get(*config);
    if (!value.empty()) fmt::print("{} = {}\n", key.name, value);
  }
  for (const ballast::OptionInfo& option : ballast::all_options()) {
    fmt::print("{} = {}\n", option.name, *get_option(options, option.name));
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "Owns the guest memory of this host's VMs: promises more than there is and keeps the "
      "promise.",
      "ballastd"};
  CommandLine line;
  app.add_option("--memory", line.memory,
                 "machine memory to spend on VMs, e.g. 48G (default: the host's minus a reserve)");
  app.add_option("--run-dir", line.run_dir,
                 "directory of sockets and lock (default: $BALLAST_RUN_DIR or /run/ballast)");
  app.add_option("--swap-dir", line.swap_dir,
                 "directory on a disk for swap files (default: /var/lib/ballast/swap)");
  app.add_option("--state-dir", line.state_dir,
                 "directory for options set at run time (default: the swap directory)");
  app.add_option("--config", line.config,
                 "configuration file (TOML), or a directory with ballast.toml and conf.d/*.toml "
                 "(default: /etc/ballast); the command line wins");
  bool only_check = false;
  app.add_flag(
      "--check-config", only_check,
      "read the configuration, print it or all that is wrong with it, and exit with 0 or 1");
  app.add_option("--log-level", line.log_level,
                 "least severity that is logged: info, warning, error");
  app.add_option("--http", line.http,
                 "address for dashboard, API and metrics, or off (default: 127.0.0.1:14631)");
  app.set_version_flag("--version", std::string("ballastd ") + BALLAST_VERSION);
  CLI11_PARSE(app, argc, argv);

  if (only_check) return check_config(line);
  signal(SIGPIPE, SIG_IGN);
  const auto config = config_from(line);
  if (!config) return fail(config.error());
  auto daemon = ballast::daemon::Daemon::start(*config, [line] { return config_from(line); });
  if (!daemon) return fail(daemon.error());
  (*daemon)->run();
  return 0;
}
