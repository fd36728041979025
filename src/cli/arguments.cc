#include "cli/arguments.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <ostream>

#include "base/units.h"
#include "proto/control.h"
#include "proto/run_dir.h"

namespace ballast::cli {

namespace {

constexpr uint64_t kMebibyte = uint64_t{1} << 20;

constexpr const char* kAbout =
    "ballast: runs QEMU guests in less memory than they were promised, and shows how they fare.\n"
    "It asks the daemon 'ballastd', which must be running on this host.";
constexpr const char* kExamples =
    "Examples:\n"
    "  ballast run --name web1 --memory 2G --min 512M -- -enable-kvm -drive file=web1.qcow2\n"
    "  ballast ls                      all VMs, one line each\n"
    "  ballast show web1               where the memory of web1 is, and how busy it is\n"
    "  ballast events --follow         what happens, as it happens\n"
    "  ballast host --json | jq .free_bytes\n"
    "'ballast COMMAND --help' tells more about each command.";
constexpr const char* kRunExamples =
    "Everything after -- goes to QEMU as it is; '-m' is added when it is not there.\n"
    "Refused at once when the daemon has no room for the VM, with the numbers.\n"
    "Examples:\n"
    "  ballast run --name web1 --memory 2G -- -enable-kvm -drive file=web1.qcow2 -nographic\n"
    "  ballast run --name db --memory 8G --min 4G -- $(cat db.args)";
constexpr const char* kLsColumns =
    "Columns (sizes in K, M, G, T of 1024):\n"
    "  CONFIG    what the guest sees as its memory     ZIPPED    guest memory held compressed\n"
    "  TARGET    what the policy wants it to consume   SWAPPED   guest memory held on disk\n"
    "  CONSUMED  machine memory it costs now           BALLOON   given up by the guest\n"
    "  FAULT/s   page faults served                    SWAPIN/s  pages read from disk\n"
    "  WAIT/s    faults that had to wait for memory";
constexpr const char* kEventsExamples =
    "Examples:\n"
    "  ballast events                  all that the daemon remembers\n"
    "  ballast events --follow --json  one object per line, until interrupted";

// What CLI11 stores into before it is checked.
struct Raw {
  Arguments result;
  double interval_seconds = 0.5;
  RunArguments run;
  std::string memory;
  std::string min = "0";
  ShowArguments show;
  EventsArguments events;
  ResumeArguments resume;
};

void add_asking_commands(CLI::App& app, Raw& raw) {
  app.add_subcommand("ls", "List the VMs, one line each")->footer(kLsColumns);
  CLI::App* show = app.add_subcommand("show", "Show one VM: where its memory is, how busy it is");
  show->add_option("VM", raw.show.vm, "Name of the VM")->required();
  app.add_subcommand("host", "Show the host: budget, what is consumed, by which means");
  CLI::App* events = app.add_subcommand("events", "Print what happened");
  events->add_flag("-f,--follow", raw.events.follow, "Go on printing until interrupted");
  events->add_option("--since", raw.events.since, "Only events with a higher sequence number")
      ->type_name("N");
  events->footer(kEventsExamples);
  CLI::App* resume =
      app.add_subcommand("resume", "Try a paused VM again, once the cause has been mended");
  resume->add_option("VM", raw.resume.vm, "Name of the VM")->required();
  app.add_subcommand("version", "Print the versions of this program and of the daemon");
}

void add_run(CLI::App& app, Raw& raw) {
  CLI::App* run = app.add_subcommand("run", "Start a VM whose memory Ballast manages");
  run->add_option("--name", raw.run.spec.name, "Its name, unique on the host")
      ->required()
      ->type_name("NAME");
  run->add_option("--memory", raw.memory, "What the guest sees as its memory, such as 256M or 2G")
      ->required()
      ->type_name("SIZE");
  run->add_option("--min", raw.min, "Never take more away than down to this (default: 0)")
      ->type_name("SIZE");
  run->add_option("--uuid", raw.run.spec.uuid, "Its UUID (default: a random one)")
      ->type_name("UUID");
  run->footer(kRunExamples);
}

Result<uint64_t> whole_mebibytes(const char* option, const std::string& text) {
  const auto bytes = parse_size(text);
  if (!bytes) return Error{fmt::format("{}: {}", option, bytes.error().message)};
  if (*bytes % kMebibyte != 0) {
    return Error{fmt::format("{} {}: whole megabytes are needed; write for example {}M", option,
                             text, std::max<uint64_t>(1, *bytes / kMebibyte))};
  }
  return *bytes;
}

bool is_uuid(const std::string& text) {
  if (text.size() != 36) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool is_dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (is_dash ? text[i] != '-' : std::isxdigit(static_cast<unsigned char>(text[i])) == 0) {
      return false;
    }
  }
  return true;
}

Result<RunArguments> check_run(Raw& raw, std::vector<std::string> qemu_words) {
  RunArguments run = raw.run;
  BALLAST_TRY_STATUS(proto::check_vm_name(run.spec.name));
  BALLAST_TRY(run.spec.configured_bytes, whole_mebibytes("--memory", raw.memory));
  BALLAST_TRY(run.spec.allocation.min_bytes, whole_mebibytes("--min", raw.min));
  if (run.spec.configured_bytes == 0) {
    return Error{"--memory 0: a VM needs some; write for example --memory 256M"};
  }
  if (run.spec.allocation.min_bytes > run.spec.configured_bytes) {
    return Error{fmt::format("--min {} exceeds --memory {}", raw.min, raw.memory)};
  }
  BALLAST_TRY_STATUS(proto::check_vm_spec(run.spec));
  if (!run.spec.uuid.empty() && !is_uuid(run.spec.uuid)) {
    return Error{fmt::format(
        "--uuid '{}' is none; it looks like 12345678-1234-1234-1234-123456789abc", run.spec.uuid)};
  }
  run.qemu = std::move(qemu_words);
  return run;
}

Result<Arguments> check(const CLI::App& app, Raw& raw, std::vector<std::string> qemu_words) {
  Arguments result = raw.result;
  const std::string command = app.get_subcommands().front()->get_name();
  if (command == "run") {
    BALLAST_TRY(result.command, check_run(raw, std::move(qemu_words)));
  } else if (!qemu_words.empty()) {
    return Error{fmt::format("'{}' takes nothing after '--'", command)};
  }
  if (result.run_dir.empty()) result.run_dir = proto::default_run_dir();
  if (!(raw.interval_seconds >= 0 && raw.interval_seconds <= 3600)) {
    return Error{"--interval takes seconds from 0 to 3600, for example 0.5"};
  }
  result.interval = std::chrono::milliseconds(static_cast<int64_t>(raw.interval_seconds * 1000));
  if (command == "ls") result.command = LsArguments{};
  if (command == "show") result.command = raw.show;
  if (command == "host") result.command = HostArguments{};
  if (command == "events") result.command = raw.events;
  if (command == "resume") result.command = raw.resume;
  if (command == "version") result.command = VersionArguments{};
  if (command == "show") BALLAST_TRY_STATUS(proto::check_vm_name(raw.show.vm));
  if (command == "resume") BALLAST_TRY_STATUS(proto::check_vm_name(raw.resume.vm));
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
    err << "ballast: '" << unknown.front() << "' is no command; known are";
    for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
      err << ' ' << command->get_name();
    }
    err << '\n';
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

std::variant<Arguments, int> parse_arguments(std::vector<std::string> words, std::ostream& out,
                                             std::ostream& err) {
  // Split here: what follows "--" is QEMU's and must not meet a parser that knows "ls" or "--json".
  const auto separator = std::find(words.begin(), words.end(), "--");
  const bool has_separator = separator != words.end();
  std::vector<std::string> qemu_words;
  if (has_separator) qemu_words.assign(separator + 1, words.end());
  words.erase(separator, words.end());

  Raw raw;
  CLI::App app(kAbout, "ballast");
  app.footer(kExamples);
  app.require_subcommand(1);
  app.fallthrough();  // inherited by the commands: global options may follow them
  app.add_option("--run-dir", raw.result.run_dir,
                 "The daemon's directory (default: $BALLAST_RUN_DIR or /run/ballast)")
      ->type_name("DIR");
  app.add_flag("--json", raw.result.json, "Print JSON instead of text; bytes as plain numbers");
  app.add_option("--interval", raw.interval_seconds,
                 "Watch this long to show rates (default: 0.5; 0: no rates)")
      ->type_name("SECONDS");
  add_run(app, raw);
  add_asking_commands(app, raw);
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
  auto result = check(app, raw, std::move(qemu_words));
  if (result) return *std::move(result);
  err << "ballast: " << result.error().message << '\n';
  return kExitUsage;
}

}  // namespace ballast::cli
