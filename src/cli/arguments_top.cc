#include <memory>

#include "cli/arguments_parts.h"
#include "top/settings.h"

namespace ballast::cli {

namespace {

constexpr const char* kTopExamples =
    "Keys: h explains them all, q quits.\n"
    "Examples:\n"
    "  ballast top                     the screen\n"
    "  ballast top -d 1                updated every second\n"
    "  ballast top -b -n 60 > top.csv  two minutes of numbers";

}  // namespace

void add_top_command(CommandParser& parser) {
  CLI::App* command =
      parser.app.add_subcommand("top", "Follow the memory of host and VMs on a screen, or as CSV");
  const auto top = std::make_shared<TopArguments>();
  const auto delay = std::make_shared<double>();
  const auto count = std::make_shared<int64_t>(0);
  command->add_flag("-b,--batch", top->batch, "Print CSV instead of a screen");
  CLI::Option* given =
      command->add_option("-d,--delay", *delay, "Time between updates (default: 2, or as kept)")
          ->type_name("SECONDS");
  CLI::Option* counted =
      command->add_option("-n,--count", *count, "Stop after so many updates")->type_name("COUNT");
  command->footer(kTopExamples);
  parser.finish["top"] = [top, delay, given, count, counted]() -> Result<Command> {
    if (given->count() > 0) {
      if (!(*delay >= top::kDelaySecondsMin && *delay <= top::kDelaySecondsMax)) {
        return Error{fmt::format("--delay takes seconds from {} to {}, for example 1",
                                 top::kDelaySecondsMin, top::kDelaySecondsMax)};
      }
      top->delay_seconds = *delay;
    }
    if (counted->count() > 0 && *count < 1) return Error{"--count takes a number from 1 on"};
    top->count = static_cast<uint64_t>(*count);
    return Command(*top);
  };
}

}  // namespace ballast::cli
