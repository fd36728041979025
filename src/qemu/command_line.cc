#include "qemu/command_line.h"

#include <algorithm>
#include <array>
#include <map>

namespace ballast::qemu {

namespace {

// QEMU's options without an argument (7.2, and those that older and newer versions have had). All
// others take one.
constexpr std::array<std::string_view, 48> kSwitches = {"h",
                                                        "help",
                                                        "version",
                                                        "mem-prealloc",
                                                        "audio-help",
                                                        "snapshot",
                                                        "usb",
                                                        "nographic",
                                                        "portrait",
                                                        "full-screen",
                                                        "win2k-hack",
                                                        "no-fd-bootchk",
                                                        "no-acpi",
                                                        "no-hpet",
                                                        "singlestep",
                                                        "preconfig",
                                                        "S",
                                                        "s",
                                                        "enable-kvm",
                                                        "xen-attach",
                                                        "xen-domid-restrict",
                                                        "no-reboot",
                                                        "no-shutdown",
                                                        "daemonize",
                                                        "only-migratable",
                                                        "nodefaults",
                                                        "no-user-config",
                                                        "enable-sync-profile",
                                                        "async-teardown",
                                                        "enable-fips",
                                                        "semihosting",
                                                        "alt-grab",
                                                        "ctrl-grab",
                                                        "no-quit",
                                                        "no-frame",
                                                        "sdl",
                                                        "curses",
                                                        "no-kvm",
                                                        "no-kvm-irqchip",
                                                        "no-kvm-pit",
                                                        "no-kvm-pit-reinjection",
                                                        "enable-hax",
                                                        "old-param",
                                                        "nodefconfig",
                                                        "tdf",
                                                        "qtest-log-stderr",
                                                        "disable-ferr",
                                                        "perfmap"};

const std::map<std::string_view, std::string_view> kSynonyms = {{"M", "machine"}, {"h", "help"}};

const std::map<std::string_view, std::string_view> kImpliedKeys = {
    {"m", "size"},          {"machine", "type"}, {"accel", "accel"},     {"device", "driver"},
    {"object", "qom-type"}, {"name", "guest"},   {"numa", "type"},       {"netdev", "type"},
    {"chardev", "backend"}, {"mon", "chardev"},  {"nic", "type"},        {"net", "type"},
    {"overcommit", ""},     {"drive", ""},       {"blockdev", "driver"}, {"global", ""},
    {"run-with", ""},       {"realtime", ""}};

}  // namespace

Result<CommandLine> CommandLine::parse(const std::vector<std::string>& arguments) {
  CommandLine line;
  for (size_t i = 0; i < arguments.size(); ++i) {
    Option option;
    const std::string& word = arguments[i];
    if (word.size() < 2 || word[0] != '-') {
      option.has_value = true;
      option.value = word;
      line.options_.push_back(std::move(option));
      continue;
    }
    option.flag = word;
    option.name = word.substr(word.starts_with("--") ? 2 : 1);
    if (const auto synonym = kSynonyms.find(option.name); synonym != kSynonyms.end()) {
      option.name = synonym->second;
    }
    if (std::find(kSwitches.begin(), kSwitches.end(), option.name) == kSwitches.end()) {
      // A last word without its argument is QEMU's to complain about.
      option.has_value = i + 1 < arguments.size();
      if (option.has_value) option.value = arguments[++i];
    }
    line.options_.push_back(std::move(option));
  }
  return line;
}

const Option* CommandLine::last(std::string_view name) const {
  const auto found = std::find_if(options_.rbegin(), options_.rend(), [name](const Option& option) {
    return option.name == name && !option.flag.empty();
  });
  return found == options_.rend() ? nullptr : &*found;
}

Option* CommandLine::last(std::string_view name) {
  return const_cast<Option*>(static_cast<const CommandLine*>(this)->last(name));
}

void CommandLine::add(std::string_view name, std::string value) {
  options_.push_back({"-" + std::string(name), std::string(name), true, std::move(value)});
}

std::vector<std::string> CommandLine::arguments() const {
  std::vector<std::string> words;
  for (const Option& option : options_) {
    if (!option.flag.empty()) words.push_back(option.flag);
    if (option.has_value) words.push_back(option.value);
  }
  return words;
}

Result<OptionValue> parse_value(const Option& option) {
  const auto implied = kImpliedKeys.find(option.name);
  auto value =
      OptionValue::parse(option.value, implied == kImpliedKeys.end() ? "" : implied->second);
  if (!value) return Error{fmt::format("{}: {}", option.flag, value.error().message)};
  return value;
}

}  // namespace ballast::qemu
