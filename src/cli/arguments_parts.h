// Parts of arguments.cc: the commands and their options, by theme.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <map>
#include <string>

#include "base/result.h"
#include "cli/arguments.h"

namespace ballast::cli {

// The commands being added to `app`. What CLI11 stores while it parses lives in the functions,
// which turn it into checked arguments afterwards.
struct CommandParser {
  using Finish = std::function<Result<Command>()>;

  CLI::App& app;
  std::map<std::string, Finish> finish;  // by the command's name
};

// What CLI11 stores into before it is checked.
struct Globals {
  std::string run_dir;
  bool json = false;
  double interval_seconds = 0.5;
};

// All commands and global options.
void add_everything(CommandParser& parser, Globals& globals);
// run, set, whatif, reserve, unreserve: whatever has an allocation.
void add_allocation_commands(CommandParser& parser);
// ls, show, why, host, events, options, reclaim, resume, doctor, version.
void add_asking_commands(CommandParser& parser);

// top.
void add_top_command(CommandParser& parser);

}  // namespace ballast::cli
