#include <fmt/format.h>

#include <set>

#include "base/units.h"
#include "cli/commands_parts.h"
#include "cli/format.h"
#include "cli/json_output.h"
#include "cli/render.h"
#include "proto/client.h"
#include "proto/control_requests.h"
#include "proto/report_json.h"

namespace ballast::cli {

namespace {

using nlohmann::json;

constexpr size_t kEventsOfWhy = 5;

json request_of(const char* op, json members) {
  members["op"] = op;
  return members;
}

// The last few events of one VM.
Result<std::vector<Event>> last_events(const std::string& vm, const Arguments& arguments) {
  std::vector<Event> result;
  for (uint64_t since = 0;;) {
    BALLAST_TRY(const EventsPortion portion, ask_events(arguments, since));
    for (const Event& event : portion.events) {
      if (event.vm == vm) result.push_back(event);
    }
    if (result.size() > kEventsOfWhy) {
      result.erase(result.begin(), result.end() - kEventsOfWhy);
    }
    if (portion.events.empty() || portion.events.back().sequence >= portion.last) return result;
    since = portion.events.back().sequence;
  }
}

// "new1", "new2", …: whatever is not in use.
void name_added_vms(const HostReport& host, WhatIfQuestion& question) {
  std::set<std::string> used;
  for (const VmReport& vm : host.vms) used.insert(vm.spec.name);
  unsigned number = 1;
  for (VmSpec& spec : question.add) {
    do {
      spec.name = fmt::format("new{}", number++);
    } while (used.contains(spec.name));
  }
}

Result<OptionReport> option_member(const json& reply) {
  return proto::option_from_json(reply.value("option", json()));
}

Result<std::vector<OptionReport>> options_member(const json& reply) {
  const json list = reply.value("options", json::array());
  if (!list.is_array()) return Error{"the daemon's list of options makes no sense"};
  std::vector<OptionReport> result;
  for (const json& element : list) {
    BALLAST_TRY(OptionReport option, proto::option_from_json(element));
    result.push_back(std::move(option));
  }
  return result;
}

Result<std::string> set_option(const OptionsArguments& asked, const Arguments& arguments) {
  BALLAST_TRY(const json reply,
              proto::call(arguments.run_dir,
                          {{"op", "options"}, {"name", asked.name}, {"value", *asked.value}}));
  BALLAST_TRY(const OptionReport option, option_member(reply));
  const json note = reply.value("note", json(""));
  const std::string text = note.is_string() ? note.get<std::string>() : "";
  if (!arguments.json) return render_option(option, text);
  return pretty({{"option", proto::to_json(option)}, {"note", text}});
}

}  // namespace

Result<std::string> set(const SetArguments& asked, const Arguments& arguments) {
  json request = request_of("set", proto::to_json(asked.change));
  request["vm"] = asked.vm;
  BALLAST_TRY(const json reply, proto::call(arguments.run_dir, request));
  const json vm = reply.value("vm", json());
  if (arguments.json) return pretty(vm);
  BALLAST_TRY(const VmReport report, proto::vm_report_from_json(vm));
  std::string text;
  if (asked.change.allocation != AllocationChange{}) text += render_allocation(report);
  if (asked.change.power_on != PowerOnChange{}) text += render_power_on(report);
  return text;
}

Result<std::string> options(const OptionsArguments& asked, const Arguments& arguments,
                            const Style& style) {
  if (asked.value) return set_option(asked, arguments);
  json request = {{"op", "options"}};
  if (!asked.name.empty()) request["name"] = asked.name;
  BALLAST_TRY(const json reply, proto::call(arguments.run_dir, request));
  BALLAST_TRY(const std::vector<OptionReport> list, options_member(reply));
  if (arguments.json) return pretty(reply.value("options", json::array()));
  if (asked.name.empty()) return render_options(list, style);
  if (list.empty()) return Error{fmt::format("the daemon says nothing of {}", asked.name)};
  return render_option(list.front(), "");
}

Result<std::string> what_if(const WhatIfArguments& asked, const Arguments& arguments,
                            const Style& style) {
  BALLAST_TRY(const HostReport host, ask_host(arguments));
  WhatIfQuestion question = asked.question;
  name_added_vms(host, question);
  BALLAST_TRY(const json reply,
              proto::call(arguments.run_dir, request_of("whatif", proto::to_json(question))));
  BALLAST_TRY(const WhatIfAnswer answer, proto::what_if_from_json(reply.value("whatif", json())));
  return arguments.json ? pretty(proto::to_json(answer)) : render_what_if(answer, style);
}

Result<std::string> why(const WhyArguments& asked, const Arguments& arguments, const Style& style) {
  // Its refusal of a wrong name is the daemon's own.
  BALLAST_TRY([[maybe_unused]] const json checked,
              proto::call(arguments.run_dir, {{"op", "show"}, {"vm", asked.vm}}));
  BALLAST_TRY(const HostReport host, ask_host(arguments));
  const VmReport* vm = find_vm(host, asked.vm);
  if (vm == nullptr) return Error{fmt::format("VM '{}' has just ended", asked.vm)};
  BALLAST_TRY(const std::vector<Event> events, last_events(asked.vm, arguments));
  return arguments.json ? pretty(why_to_json(*vm, host, events))
                        : render_why(*vm, host, events, style);
}

Result<std::string> reserve(const ReserveArguments& asked, const Arguments& arguments) {
  const VmSpec& spec = asked.spec;
  BALLAST_TRY([[maybe_unused]] const json reply,
              proto::call(arguments.run_dir, {{"op", "reserve"},
                                              {"name", spec.name},
                                              {"memory_bytes", spec.configured_bytes},
                                              {"min_bytes", spec.allocation.min_bytes},
                                              {"seconds", asked.seconds}}));
  if (arguments.json) return pretty({{"reserved", spec.name}, {"seconds", asked.seconds}});
  return fmt::format("{} of memory, {} of it guaranteed (min), are reserved for {} for {}\n",
                     format_size(spec.configured_bytes), format_size(spec.allocation.min_bytes),
                     spec.name, format_uptime(asked.seconds * kSecond));
}

Result<std::string> unreserve(const UnreserveArguments& asked, const Arguments& arguments) {
  BALLAST_TRY([[maybe_unused]] const json reply,
              proto::call(arguments.run_dir, {{"op", "unreserve"}, {"name", asked.vm}}));
  if (arguments.json) return pretty({{"unreserved", asked.vm}});
  return fmt::format("nothing is reserved for {} any more\n", asked.vm);
}

Result<std::string> reclaim(const ReclaimArguments& asked, const Arguments& arguments) {
  BALLAST_TRY([[maybe_unused]] const json reply,
              proto::call(arguments.run_dir,
                          {{"op", "reclaim"}, {"vm", asked.vm}, {"bytes", asked.bytes}}));
  if (arguments.json) return pretty({{"vm", asked.vm}, {"bytes", asked.bytes}});
  return fmt::format("{} are being taken from {}; 'ballast show {}' tells how far\n",
                     format_size(asked.bytes), asked.vm, asked.vm);
}

}  // namespace ballast::cli
