// ballastd: the daemon that owns the memory of this host's VMs. See docs/man/ballastd.8.
#include <signal.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "daemon/config.h"
#include "daemon/daemon.h"
#include "proto/run_dir.h"

namespace {

using ballast::daemon::Config;

struct CommandLine {
  std::string memory;
  std::string run_dir;
  std::string swap_dir;
  std::string state_dir;
  std::string config;
  std::string log_level;
};

ballast::Result<Config> config_from(const CommandLine& line) {
  Config config;
  config.run_dir = ballast::proto::default_run_dir();
  if (!line.config.empty()) {
    BALLAST_TRY_STATUS(read_config_file(line.config, config));
  }
  if (!line.memory.empty()) {
    BALLAST_TRY(config.memory_bytes, ballast::parse_size(line.memory));
  }
  if (!line.run_dir.empty()) config.run_dir = line.run_dir;
  if (!line.swap_dir.empty()) config.swap_dir = line.swap_dir;
  if (!line.state_dir.empty()) config.state_dir = line.state_dir;
  if (config.state_dir.empty()) config.state_dir = config.swap_dir;
  if (!line.log_level.empty()) {
    BALLAST_TRY(config.log_level, ballast::daemon::parse_log_level(line.log_level));
  }
  if (config.memory_bytes == 0) {
    BALLAST_TRY(config.memory_bytes, ballast::daemon::default_budget_bytes());
  }
  return config;
}

int fail(const ballast::Error& error) {
  fmt::print(stderr, "ballastd: {}\n", error.message);
  return 1;
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
  app.add_option("--config", line.config, "configuration file (TOML); the command line wins");
  app.add_option("--log-level", line.log_level,
                 "least severity that is logged: info, warning, error");
  app.set_version_flag("--version", std::string("ballastd ") + BALLAST_VERSION);
  CLI11_PARSE(app, argc, argv);

  signal(SIGPIPE, SIG_IGN);
  const auto config = config_from(line);
  if (!config) return fail(config.error());
  auto daemon = ballast::daemon::Daemon::start(*config);
  if (!daemon) return fail(daemon.error());
  (*daemon)->run();
  return 0;
}
