#include <memory>

#include "base/units.h"
#include "cli/arguments_parts.h"
#include "proto/control.h"

namespace ballast::cli {

namespace {

constexpr const char* kLsColumns =
    "Columns (sizes in K, M, G, T of 1024); a name is red when the VM is paused:\n"
    "  CONFIG    what the guest sees as its memory     ZIPPED    guest memory held compressed\n"
    "  TARGET    what the policy wants it to consume   SWAPPED   guest memory held on disk\n"
    "  CONSUMED  machine memory it costs now           BALLOON   given up by the guest\n"
    "  ACTIVE    touched lately, as estimated          SAVED     saved by page sharing\n"
    "  SHARES    its weight when memory is short       SWIN/s    pages read from disk\n"
    "                                                  WAIT/s    faults that had to wait for "
    "memory";
constexpr const char* kEventsExamples =
    "Examples:\n"
    "  ballast events                  all that the daemon remembers\n"
    "  ballast events --follow --json  one object per line, until interrupted";
constexpr const char* kWhyAbout =
    "Tells from the daemon's own numbers what decides the VM's target (min, limit, shares, its "
    "need),\n"
    "what it competes with, how its balloon does, and what of it is compressed or swapped.\n"
    "Examples:\n"
    "  ballast why web1\n"
    "  ballast why web1 --json | jq .vm.bound";
constexpr const char* kOptionsExamples =
    "A change takes effect at once, or for VMs that start from then on: the option says which.\n"
    "It is kept over restarts and wins over the configuration files.\n"
    "Examples:\n"
    "  ballast options                 all of them, with the default of those that differ\n"
    "  ballast options Mem.IdleTax     what it is, and what it may be\n"
    "  ballast options Mem.IdleTax=50  sets it";
constexpr const char* kReclaimExamples =
    "For tests and for making room at a time of one's own choice. The VM may take it again.\n"
    "Example:\n"
    "  ballast reclaim web1 256M";

template <typename OfOneVm>
void add_command_of_vm(CommandParser& parser, const char* name, const char* about,
                       const char* footer) {
  CLI::App* command = parser.app.add_subcommand(name, about);
  command->footer(footer);
  const auto vm = std::make_shared<std::string>();
  command->add_option("VM", *vm, "Name of the VM")->required();
  parser.finish[name] = [vm]() -> Result<Command> {
    BALLAST_TRY_STATUS(proto::check_vm_name(*vm));
    return Command(OfOneVm{*vm});
  };
}

template <typename WithoutWords>
void add_plain_command(CommandParser& parser, const char* name, const char* about,
                       const char* footer) {
  parser.app.add_subcommand(name, about)->footer(footer);
  parser.finish[name] = []() -> Result<Command> { return Command(WithoutWords{}); };
}

void add_events(CommandParser& parser) {
  CLI::App* command = parser.app.add_subcommand("events", "Print what happened");
  const auto events = std::make_shared<EventsArguments>();
  command->add_flag("-f,--follow", events->follow, "Go on printing until interrupted");
  command->add_option("--since", events->since, "Only events with a higher sequence number")
      ->type_name("N");
  command->footer(kEventsExamples);
  parser.finish["events"] = [events]() -> Result<Command> { return Command(*events); };
}

void add_options(CommandParser& parser) {
  CLI::App* command =
      parser.app.add_subcommand("options", "List the daemon's options, show one, or set one");
  const auto text = std::make_shared<std::string>();
  command->add_option("NAME[=VALUE]", *text, "The option, and what it is to be");
  command->footer(kOptionsExamples);
  parser.finish["options"] = [text]() -> Result<Command> {
    OptionsArguments options;
    const size_t equals = text->find('=');
    options.name = text->substr(0, equals);
    if (equals != std::string::npos) options.value = text->substr(equals + 1);
    if (options.name.empty() && options.value) {
      return Error{fmt::format("'{}' names no option; write for example Mem.IdleTax=50", *text)};
    }
    return Command(options);
  };
}

void add_reclaim(CommandParser& parser) {
  CLI::App* command = parser.app.add_subcommand(
      "reclaim", "Take memory from a VM now, whatever its target, not below its min");
  struct Words {
    std::string vm, size;
  };
  const auto words = std::make_shared<Words>();
  command->add_option("VM", words->vm, "Name of the VM")->required();
  command->add_option("SIZE", words->size, "How much, such as 256M")->required();
  command->footer(kReclaimExamples);
  parser.finish["reclaim"] = [words]() -> Result<Command> {
    BALLAST_TRY_STATUS(proto::check_vm_name(words->vm));
    BALLAST_TRY(const uint64_t bytes, parse_size(words->size));
    if (bytes == 0) return Error{"reclaim 0: nothing to do"};
    return Command(ReclaimArguments{words->vm, bytes});
  };
}

void add_doctor(CommandParser& parser) {
  CLI::App* command = parser.app.add_subcommand(
      "doctor", "Look at this host and say what to mend; works without a daemon too");
  const auto doctor = std::make_shared<DoctorArguments>();
  command->add_option("--swap-dir", doctor->swap_dir, "Look at this one (default: as configured)")
      ->type_name("DIR");
  command->footer("The status is 1 when something fails, 0 when there are at most warnings.");
  parser.finish["doctor"] = [doctor]() -> Result<Command> { return Command(*doctor); };
}

}  // namespace

void add_asking_commands(CommandParser& parser) {
  add_plain_command<LsArguments>(parser, "ls", "List the VMs, one line each", kLsColumns);
  add_command_of_vm<ShowArguments>(parser, "show",
                                   "Show one VM: where its memory is, how busy it is", "");
  add_command_of_vm<WhyArguments>(parser, "why", "Explain why a VM has the memory it has",
                                  kWhyAbout);
  add_plain_command<HostArguments>(parser, "host",
                                   "Show the host: budget, what is consumed, by which means", "");
  add_events(parser);
  add_options(parser);
  add_reclaim(parser);
  add_command_of_vm<ResumeArguments>(parser, "resume",
                                     "Try a paused VM again, once the cause has been mended", "");
  add_doctor(parser);
  add_plain_command<VersionArguments>(parser, "version",
                                      "Print the versions of this program and of the daemon", "");
}

}  // namespace ballast::cli
