#include "cli/complete.h"

#include <algorithm>
#include <ostream>

#include "cli/arguments_parts.h"
#include "model/options.h"
#include "proto/client.h"
#include "proto/report_json.h"
#include "proto/run_dir.h"

namespace ballast::cli {

namespace {

using Words = std::vector<std::string>;

bool takes_value(const CLI::Option& option) { return option.get_expected_min() > 0; }

// The option of the command, or of all commands, that this word names.
const CLI::Option* option_of(const CLI::App& app, const CLI::App* command, std::string_view word) {
  for (const CLI::App* one : {command, &app}) {
    if (one == nullptr) continue;
    for (const CLI::Option* option : one->get_options()) {
      if (!word.empty() && option->check_name(std::string(word))) return option;
    }
  }
  return nullptr;
}

Words names_of_options(const CLI::App& app, const CLI::App* command) {
  Words names;
  for (const CLI::App* one : {command, &app}) {
    if (one == nullptr) continue;
    for (const CLI::Option* option : one->get_options()) {
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    }
  }
  return names;
}

// Values that are words; for all others the shell may offer files or nothing.
Words values_of(std::string_view option) {
  if (option == "--shares") return {"low", "normal", "high"};
  if (option == "--pshare") return {"on", "off", "default"};
  if (option == "--limit" || option == "--salt") return {"none"};
  if (option == "--balloon-max") return {"default"};
  return {};
}

Words names_for(const std::string& command, const Names& names) {
  for (const char* of_a_vm : {"show", "why", "set", "reclaim", "resume"}) {
    if (command == of_a_vm) return names.vms();
  }
  if (command == "unreserve") return names.reservations();
  if (command != "options") return {};
  Words options;
  options.reserve(all_options().size());
  for (const OptionInfo& option : all_options()) {
    options.push_back(fmt::format("{}=", option.name));
  }
  return options;
}

struct Place {
  const CLI::App* command = nullptr;
  const CLI::Option* value_of = nullptr;  // the last word is this option's value
  bool named = false;                     // the command's first positional word is there
  bool beyond = false;                    // after "--"
};

const CLI::App* command_of(const CLI::App& app, const std::string& name) {
  const auto same =
      app.get_subcommands([&](const CLI::App* one) { return one->get_name() == name; });
  return same.empty() ? nullptr : same.front();
}

Place place_of(const CLI::App& app, const Words& words) {
  Place place;
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    const std::string& word = words[i];
    if (place.value_of != nullptr) {
      place.value_of = nullptr;
    } else if (word == "--") {
      place.beyond = true;
    } else if (word.starts_with('-')) {
      const CLI::Option* option = option_of(app, place.command, word);
      if (option != nullptr && takes_value(*option)) place.value_of = option;
    } else if (place.command == nullptr) {
      place.command = command_of(app, word);
    } else {
      place.named = true;
    }
  }
  return place;
}

Words all_candidates(const CLI::App& app, const Words& words, const Names& names) {
  const Place place = place_of(app, words);
  if (place.beyond) return {};
  if (place.value_of != nullptr) return values_of("--" + place.value_of->get_lnames().front());
  if (words.back().starts_with('-')) return names_of_options(app, place.command);
  if (place.command != nullptr) {
    return place.named ? Words() : names_for(place.command->get_name(), names);
  }
  const auto known = app.get_subcommands([](const CLI::App*) { return true; });
  Words commands;
  commands.reserve(known.size());
  for (const CLI::App* one : known) {
    commands.push_back(one->get_name());
  }
  return commands;
}

std::string run_dir_in(const Words& words) {
  const auto given = std::ranges::find(words, "--run-dir");
  const bool has_value = given != words.end() && given + 1 != words.end();
  return has_value ? *(given + 1) : proto::default_run_dir();
}

}  // namespace

std::vector<std::string> completions(const std::vector<std::string>& words, const Names& names) {
  CLI::App app("", "ballast");
  Globals globals;
  CommandParser parser{app, {}};
  add_everything(parser, globals);
  const Words asked = words.empty() ? Words{""} : words;
  Words found = all_candidates(app, asked, names);
  std::erase_if(found, [&](const std::string& one) { return !one.starts_with(asked.back()); });
  std::ranges::sort(found);
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

void print_completions(const std::vector<std::string>& words, std::ostream& out) {
  // Somebody waits for a key to take effect.
  const auto ask = [&words]() -> Result<HostReport> {
    BALLAST_TRY(const nlohmann::json reply,
                proto::call(run_dir_in(words), {{"op", "host"}}, std::chrono::milliseconds(500)));
    return proto::host_report_from_json(reply.value("host", nlohmann::json::object()));
  };
  const Names names = {[&ask] {
                         Words vms;
                         if (const auto host = ask()) {
                           vms.reserve(host->vms.size());
                           for (const VmReport& vm : host->vms) vms.push_back(vm.spec.name);
                         }
                         return vms;
                       },
                       [&ask] {
                         Words reserved;
                         if (const auto host = ask()) {
                           reserved.reserve(host->reservations.size());
                           for (const Reservation& one : host->reservations) {
                             reserved.push_back(one.vm);
                           }
                         }
                         return reserved;
                       }};
  for (const std::string& one : completions(words, names)) out << one << '\n';
}

}  // namespace ballast::cli
