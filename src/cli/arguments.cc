#include "cli/arguments.h"

#include <algorithm>
#include <ostream>

#include "base/near_miss.h"
#include "cli/arguments_parts.h"
#include "proto/run_dir.h"

namespace ballast::cli {

namespace {

constexpr const char* kAbout =
    "ballast: runs QEMU guests in less memory than they were promised, and shows how they fare.\n"
    "It asks the daemon 'ballastd', which must be running on this host.";
constexpr const char* kExamples =
    "Examples:\n"
    "  ballast run --name web1 --memory 2G --min 512M -- -enable-kvm -drive file=web1.qcow2\n"
    "  ballast ls                      all VMs, one line each\n"
    "  ballast show web1               where the memory of web1 is, and how busy it is\n"
    "  ballast why web1                why web1 has what it has\n"
    "  ballast set web1 --shares high  gives it more weight from now on\n"
    "  ballast whatif --add 3x2G       what three more VMs would change\n"
    "  ballast top                     all of it on a screen that follows it, as esxtop\n"
    "  ballast events --follow         what happens, as it happens\n"
    "  ballast host --json | jq .free_bytes\n"
    "'ballast COMMAND --help' tells more about each command.";

void add_globals(CLI::App& app, Globals& globals) {
  app.add_option("--run-dir", globals.run_dir,
                 "The daemon's directory (default: $BALLAST_RUN_DIR or /run/ballast)")
      ->type_name("DIR");
  app.add_flag("--json", globals.json, "Print JSON instead of text; bytes as plain numbers");
  app.add_option("--interval", globals.interval_seconds,
                 "Watch this long to show rates (default: 0.5; 0: no rates)")
      ->type_name("SECONDS");
}

Result<Arguments> check(const CommandParser& parser, const Globals& globals,
                        std::vector<std::string> qemu_words) {
  const std::string name = parser.app.get_subcommands().front()->get_name();
  Arguments result;
  BALLAST_TRY(result.command, parser.finish.at(name)());
  if (auto* run = std::get_if<RunArguments>(&result.command)) {
    run->qemu = std::move(qemu_words);
  } else if (!qemu_words.empty()) {
    return Error{fmt::format("'{}' takes nothing after '--'", name)};
  }
  result.run_dir = globals.run_dir.empty() ? proto::default_run_dir() : globals.run_dir;
  result.json = globals.json;
  if (!(globals.interval_seconds >= 0 && globals.interval_seconds <= 3600)) {
    return Error{"--interval takes seconds from 0 to 3600, for example 0.5"};
  }
  result.interval =
      std::chrono::milliseconds(static_cast<int64_t>(globals.interval_seconds * 1000));
  return result;
}

int explain(const CLI::App& app, const CLI::ParseError& error, bool has_separator,
            std::ostream& out, std::ostream& err) {
  if (error.get_exit_code() == 0) {
    app.exit(error, out, err);
    return 0;
  }
  const auto chosen = app.get_subcommands();
  const auto unknown = app.remaining();
  if (chosen.empty() && !unknown.empty()) {
    std::vector<std::string> names;
    for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
      names.push_back(command->get_name());
    }
    const std::vector<std::string_view> known(names.begin(), names.end());
    err << fmt::format("ballast: '{}' is no command{}; known are {}\n", unknown.front(),
                       did_you_mean(unknown.front(), known), fmt::join(known, " "));
  } else {
    err << "ballast: " << error.what() << '\n';
  }
  const bool is_run = !chosen.empty() && chosen.front()->get_name() == "run";
  if (is_run && !has_separator) {
    err << "QEMU's own options go after '--': ballast run --name NAME --memory SIZE -- -drive …\n";
  }
  err << "'ballast " << (chosen.empty() ? "" : chosen.front()->get_name() + " ")
      << "--help' explains.\n";
  return kExitUsage;
}

}  // namespace

void add_everything(CommandParser& parser, Globals& globals) {
  parser.app.footer(kExamples);
  parser.app.require_subcommand(1);
  parser.app.fallthrough();  // inherited by the commands: global options may follow them
  add_globals(parser.app, globals);
  add_allocation_commands(parser);
  add_asking_commands(parser);
  add_top_command(parser);
}

std::variant<Arguments, int> parse_arguments(std::vector<std::string> words, std::ostream& out,
                                             std::ostream& err) {
  // Split here: what follows "--" is QEMU's and must not meet a parser that knows "ls" or "--json".
  const auto separator = std::find(words.begin(), words.end(), "--");
  const bool has_separator = separator != words.end();
  std::vector<std::string> qemu_words;
  if (has_separator) qemu_words.assign(separator + 1, words.end());
  words.erase(separator, words.end());

  CLI::App app(kAbout, "ballast");
  Globals globals;
  CommandParser parser{app, {}};
  add_everything(parser, globals);
  if (words.empty()) {
    err << app.help();
    return kExitUsage;
  }
  try {
    std::reverse(words.begin(), words.end());  // as CLI11 wants them
    app.parse(std::move(words));
  } catch (const CLI::ParseError& error) {
    return explain(app, error, has_separator, out, err);
  }
  auto result = check(parser, globals, std::move(qemu_words));
  if (result) return *std::move(result);
  err << "ballast: " << result.error().message << '\n';
  return kExitUsage;
}

}  // namespace ballast::cli
