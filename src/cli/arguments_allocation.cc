#include <memory>

#include "cli/argument_values.h"
#include "cli/arguments_parts.h"
#include "proto/control.h"

namespace ballast::cli {

namespace {

constexpr const char* kRunExamples =
    "By default it has no min, no limit and normal shares. Shares low, normal and high are 5, 10 "
    "and\n"
    "20 for each MB of its memory.\n"
    "VMs with the same salt share equal pages; one without a salt shares with no other VM, unless\n"
    "the option Mem.ShareForceSalting says so.\n"
    "Everything after -- goes to QEMU as it is; '-m' is added when it is not there.\n"
    "Refused at once when the daemon has no room for the VM, with the numbers.\n"
    "Examples:\n"
    "  ballast run --name web1 --memory 2G -- -enable-kvm -drive file=web1.qcow2 -nographic\n"
    "  ballast run --name db --memory 8G --min 4G --shares high -- $(cat db.args)\n"
    "  ballast run --name build --memory 8G --limit 3G --shares low -- -drive file=build.qcow2\n"
    "  ballast run --name vdi7 --memory 4G --salt vdi -- -drive file=vdi7.qcow2";
constexpr const char* kSetExamples =
    "What is not named stays as it is. All of the change is made, or nothing. Shares low, normal "
    "and\n"
    "high are 5, 10 and 20 for each MB of its memory.\n"
    "Salt and page sharing take effect when the VM is powered on next. They are kept, and win "
    "over\n"
    "what it is started with, until --salt none and --pshare default.\n"
    "Examples:\n"
    "  ballast set web1 --shares high         twice the weight of a normal VM of its size\n"
    "  ballast set web1 --min 1G --limit 3G   never less, never more\n"
    "  ballast set web1 --limit none --balloon-max default\n"
    "  ballast set web1 --salt web            shares pages with VMs of salt web, from then on";
constexpr const char* kWhatIfExamples =
    "Nothing is changed. Added VMs are taken to use all their memory, actively: the worst case.\n"
    "Examples:\n"
    "  ballast whatif --add 3x2G                         can three more be started, at whose "
    "cost?\n"
    "  ballast whatif --add 2G,min=1G,shares=high --add 4x512M,limit=256M\n"
    "  ballast whatif --set web1.shares=2000 --set db.min=1G";
constexpr const char* kReserveExamples =
    "Admission counts the reservation as if the VM ran, and the VM of that name uses it. It ends "
    "by\n"
    "itself, or by 'ballast unreserve'. Given again, it replaces the earlier one.\n"
    "Examples:\n"
    "  ballast reserve db --memory 8G --min 4G           for the next 10 minutes\n"
    "  ballast reserve db --memory 8G --min 4G --for 2h";
constexpr const char* kUnreserveExample =
    "Example:\n"
    "  ballast unreserve db";

constexpr const char* kSharesHelp = "Weight when memory is short: low, normal, high, or a number";

using OptionalText = std::optional<std::string>;

// The options of an allocation, as they were typed.
struct AllocationWords {
  OptionalText min, limit, shares, balloon_max;

  void add_to(CLI::App& command) {
    command.add_option("--min", min, "Never take more away than down to this")->type_name("SIZE");
    command
        .add_option("--limit", limit, "Never give more than this, however much is free; or none")
        ->type_name("SIZE");
    command.add_option("--shares", shares, kSharesHelp)->type_name("low|normal|high|N");
    command
        .add_option("--balloon-max", balloon_max,
                    "Largest balloon; or default: the host's Mem.CtlMaxPercent")
        ->type_name("SIZE");
  }
  Result<AllocationChange> read() const {
    AllocationChange change;
    if (min) {
      BALLAST_TRY(change.min_bytes, parse_megabytes("--min", *min));
    }
    if (limit) {
      BALLAST_TRY(change.limit_bytes, parse_limit("--limit", *limit));
    }
    if (shares) {
      BALLAST_TRY(change.shares, parse_shares(*shares));
    }
    if (balloon_max) {
      BALLAST_TRY(change.balloon_max_bytes, parse_balloon_max("--balloon-max", *balloon_max));
    }
    return change;
  }
};

// The options of page sharing, as they were typed.
struct SharingWords {
  OptionalText salt, pshare;

  void add_to(CLI::App& command, const char* pshare_values) {
    command
        .add_option("--salt", salt, "Share equal pages with VMs that have the same salt; or none")
        ->type_name("TEXT");
    command.add_option("--pshare", pshare, "Whether it shares pages at all")
        ->type_name(pshare_values);
  }
  Result<PowerOnChange> read() const {
    PowerOnChange change;
    if (salt) {
      BALLAST_TRY(change.salt, parse_salt("--salt", *salt));
    }
    if (pshare) {
      const auto sharing = parse_sharing(*pshare);
      if (!sharing) return Error{"--pshare: " + sharing.error().message};
      change.sharing = *sharing;
    }
    return change;
  }
};

// A VM that is to be: its name was given, its sizes are text.
Status read_spec(const std::string& memory, const AllocationChange& change, VmSpec& spec) {
  BALLAST_TRY_STATUS(proto::check_vm_name(spec.name));
  BALLAST_TRY(spec.configured_bytes, parse_megabytes("--memory", memory));
  if (spec.configured_bytes == 0) {
    return Error{"--memory 0: a VM needs some; write for example --memory 256M"};
  }
  spec.allocation = apply({}, change);
  return proto::check_vm_spec(spec);
}

void add_run(CommandParser& parser) {
  struct Words {
    RunArguments run;
    std::string memory;
    AllocationWords allocation;
    SharingWords sharing;
  };
  const auto words = std::make_shared<Words>();
  CLI::App* command = parser.app.add_subcommand("run", "Start a VM whose memory Ballast manages");
  command->add_option("--name", words->run.spec.name, "Its name, unique on the host")
      ->required()
      ->type_name("NAME");
  command
      ->add_option("--memory", words->memory,
                   "What the guest sees as its memory, such as 256M or 2G")
      ->required()
      ->type_name("SIZE");
  words->allocation.add_to(*command);
  words->sharing.add_to(*command, "on|off");
  command->add_option("--uuid", words->run.spec.uuid, "Its UUID (default: a random one)")
      ->type_name("UUID");
  command->footer(kRunExamples);
  parser.finish["run"] = [words]() -> Result<Command> {
    BALLAST_TRY(const AllocationChange change, words->allocation.read());
    RunArguments run = words->run;
    BALLAST_TRY_STATUS(read_spec(words->memory, change, run.spec));
    BALLAST_TRY(const PowerOnChange sharing, words->sharing.read());
    run.spec = apply(std::move(run.spec), apply(PowerOn{}, sharing));
    if (!run.spec.uuid.empty() && !is_uuid(run.spec.uuid)) {
      return Error{
          fmt::format("--uuid '{}' is none; it looks like 12345678-1234-1234-1234-123456789abc",
                      run.spec.uuid)};
    }
    return Command(std::move(run));
  };
}

void add_set(CommandParser& parser) {
  struct Words {
    std::string vm;
    AllocationWords allocation;
    SharingWords sharing;
  };
  const auto words = std::make_shared<Words>();
  CLI::App* command = parser.app.add_subcommand(
      "set", "Change what a VM is granted: min, limit, shares, balloon, salt");
  command->add_option("VM", words->vm, "Name of the VM")->required();
  words->allocation.add_to(*command);
  words->sharing.add_to(*command, "on|off|default");
  command->footer(kSetExamples);
  parser.finish["set"] = [words]() -> Result<Command> {
    BALLAST_TRY_STATUS(proto::check_vm_name(words->vm));
    VmChange change;
    BALLAST_TRY(change.allocation, words->allocation.read());
    BALLAST_TRY(change.power_on, words->sharing.read());
    if (change == VmChange{}) {
      return Error{
          "nothing to set: give --min, --limit, --shares, --balloon-max, --salt or --pshare"};
    }
    return Command(SetArguments{words->vm, change});
  };
}

void add_whatif(CommandParser& parser) {
  struct Words {
    std::vector<std::string> add, set;
  };
  const auto words = std::make_shared<Words>();
  CLI::App* command = parser.app.add_subcommand(
      "whatif", "Show what more VMs or other allocations would do to all targets");
  command
      ->add_option("--add", words->add, "VMs that would start: [Nx]SIZE[,min=][,limit=][,shares=]")
      ->type_name("VMS")
      ->allow_extra_args(false);
  command->add_option("--set", words->set, "What would be changed: VM.shares=, VM.min=, VM.limit=")
      ->type_name("CHANGE")
      ->allow_extra_args(false);
  command->footer(kWhatIfExamples);
  parser.finish["whatif"] = [words]() -> Result<Command> {
    WhatIfArguments whatif;
    for (const std::string& text : words->add) {
      BALLAST_TRY(const std::vector<VmSpec> vms, parse_added_vms(text));
      whatif.question.add.insert(whatif.question.add.end(), vms.begin(), vms.end());
    }
    for (const std::string& text : words->set) {
      BALLAST_TRY_STATUS(add_setting(text, whatif.question));
    }
    if (words->add.empty() && words->set.empty()) {
      return Error{"what if what? Give --add or --set, for example --add 2G"};
    }
    return Command(std::move(whatif));
  };
}

void add_reservations(CommandParser& parser) {
  struct Words {
    ReserveArguments reserve;
    std::string memory;
    std::string min = "0";
    std::string time = "10m";
  };
  const auto words = std::make_shared<Words>();
  CLI::App* command =
      parser.app.add_subcommand("reserve", "Promise memory to a VM that is not there yet");
  command->add_option("NAME", words->reserve.spec.name, "Name of the VM that will come")
      ->required();
  command->add_option("--memory", words->memory, "What the guest will see as its memory")
      ->required()
      ->type_name("SIZE");
  command->add_option("--min", words->min, "Its min (default: 0)")->type_name("SIZE");
  command->add_option("--for", words->time, "How long, such as 90s, 10m, 2h (default: 10m)")
      ->type_name("TIME");
  command->footer(kReserveExamples);
  parser.finish["reserve"] = [words]() -> Result<Command> {
    ReserveArguments reserve = words->reserve;
    BALLAST_TRY(const uint64_t min_bytes, parse_megabytes("--min", words->min));
    BALLAST_TRY_STATUS(read_spec(words->memory, {.min_bytes = min_bytes}, reserve.spec));
    BALLAST_TRY(reserve.seconds, parse_duration("--for", words->time));
    return Command(std::move(reserve));
  };
  const auto name = std::make_shared<std::string>();
  command = parser.app.add_subcommand("unreserve", "End a reservation");
  command->add_option("NAME", *name, "Name of the VM that it was for")->required();
  command->footer(kUnreserveExample);
  parser.finish["unreserve"] = [name]() -> Result<Command> {
    BALLAST_TRY_STATUS(proto::check_vm_name(*name));
    return Command(UnreserveArguments{*name});
  };
}

}  // namespace

void add_allocation_commands(CommandParser& parser) {
  add_run(parser);
  add_set(parser);
  add_whatif(parser);
  add_reservations(parser);
}

}  // namespace ballast::cli
