#include "cli/commands.h"

#include <fmt/format.h>

#include <ostream>
#include <thread>

#include "cli/commands_parts.h"
#include "cli/json_output.h"
#include "cli/render.h"
#include "cli/run.h"
#include "proto/client.h"
#include "proto/control.h"
#include "proto/report_json.h"
#include "top/top.h"

namespace ballast::cli {

using nlohmann::json;

std::string pretty(const json& value) {
  return value.dump(2, ' ', false, json::error_handler_t::replace) + '\n';
}

Result<HostReport> ask_host(const Arguments& arguments) {
  BALLAST_TRY(const json reply, proto::call(arguments.run_dir, {{"op", "host"}}));
  return proto::host_report_from_json(reply.value("host", json::object()));
}

Result<EventsPortion> ask_events(const Arguments& arguments, uint64_t since) {
  BALLAST_TRY(const json reply,
              proto::call(arguments.run_dir, {{"op", "events"}, {"since", since}}));
  const json events = reply.value("events", json::array());
  const json last = reply.value("last", json(0u));
  if (!events.is_array() || !last.is_number_unsigned()) {
    return Error{
        "the daemon's list of events makes no sense; are daemon and ballast of one version?"};
  }
  EventsPortion portion;
  portion.last = last.get<uint64_t>();
  for (const json& element : events) {
    BALLAST_TRY(Event event, proto::event_from_json(element));
    portion.events.push_back(std::move(event));
  }
  return portion;
}

namespace {

constexpr std::chrono::milliseconds kFollowInterval{500};

Result<Observation> observe(const Arguments& arguments) {
  Observation observation;
  BALLAST_TRY(observation.now, ask_host(arguments));
  if (arguments.interval.count() == 0 || observation.now.vms.empty()) return observation;
  std::this_thread::sleep_for(arguments.interval);
  observation.before = std::move(observation.now);
  BALLAST_TRY(observation.now, ask_host(arguments));
  return observation;
}

Result<std::string> ls(const Arguments& arguments, const Style& style) {
  BALLAST_TRY(const Observation observation, observe(arguments));
  return arguments.json ? pretty(ls_to_json(observation)) : render_ls(observation, style);
}

Result<std::string> host(const Arguments& arguments, const Style& style) {
  if (arguments.json) {
    BALLAST_TRY(const Observation observation, observe(arguments));
    return pretty(host_to_json(observation));
  }
  BALLAST_TRY(const HostReport report, ask_host(arguments));
  return render_host(report, style);
}

Result<std::string> show(const ShowArguments& asked, const Arguments& arguments,
                         const Style& style) {
  // A wrong name is refused by the daemon at once, not after the time it takes to see rates.
  BALLAST_TRY([[maybe_unused]] const json checked,
              proto::call(arguments.run_dir, {{"op", "show"}, {"vm", asked.vm}}));
  BALLAST_TRY(const Observation observation, observe(arguments));
  const VmReport* vm = find_vm(observation.now, asked.vm);
  if (vm == nullptr) return Error{fmt::format("VM '{}' has just ended", asked.vm)};
  return arguments.json ? pretty(vm_to_json(*vm, observation))
                        : render_show(*vm, observation, style);
}

Result<std::string> resume(const ResumeArguments& asked, const Arguments& arguments) {
  BALLAST_TRY([[maybe_unused]] const json reply,
              proto::call(arguments.run_dir, {{"op", "resume"}, {"vm", asked.vm}}));
  return arguments.json ? pretty({{"resumed", asked.vm}}) : asked.vm + " goes on\n";
}

// The program's own version is worth printing without a daemon.
std::string version(const Arguments& arguments) {
  const auto reply = proto::call(arguments.run_dir, {{"op", "version"}});
  if (arguments.json) {
    json daemon = nullptr;
    if (reply) {
      daemon = *reply;
      daemon.erase("ok");
    }
    return pretty({{"version", BALLAST_VERSION}, {"daemon", daemon}});
  }
  const std::string own = fmt::format("ballast {}\n", BALLAST_VERSION);
  if (!reply) return own + reply.error().message + '\n';
  const json daemon_version = reply->value("version", json());
  return own + fmt::format("ballastd {}, process {}\n",
                           daemon_version.is_string()
                               ? printable(daemon_version.get_ref<const std::string&>())
                               : "of an unknown version",
                           reply->value("pid", json(0)).dump());
}

void print_events(const std::vector<Event>& events, bool as_json, const Output& output) {
  if (as_json) {
    for (const Event& event : events) output.out << proto::to_line(proto::to_json(event)) << '\n';
  } else {
    output.out << render_events(events, output.style);
  }
  output.out.flush();
}

// Prints portion after portion; ends when all are printed or, following, when nobody reads any
// more.
Status events(const EventsArguments& asked, const Arguments& arguments, const Output& output) {
  uint64_t since = asked.since;
  bool was_away = false;
  while (output.out.good()) {
    const auto portion = ask_events(arguments, since);
    if (!portion) {
      // A daemon that is being restarted is no reason to stop following.
      if (!asked.follow || portion.error().system_error == 0) return portion.error();
      if (!was_away) output.err << "ballast: " << portion.error().message << "; waiting for it\n";
      was_away = true;
    } else {
      was_away = false;
      print_events(portion->events, arguments.json, output);
      if (!portion->events.empty()) {
        since = portion->events.back().sequence;
        if (since < portion->last) continue;
      } else if (portion->last < since && asked.follow) {
        since = 0;  // a new daemon counts from the start
        continue;
      }
    }
    if (!asked.follow) return Done{};
    std::this_thread::sleep_for(kFollowInterval);
  }
  return Done{};
}

struct Executor {
  const Arguments& arguments;
  const Output& output;

  int print(const Result<std::string>& text) const {
    if (!text) return fail(text.error());
    output.out << *text << std::flush;
    return 0;
  }
  int fail(const Error& error) const {
    output.err << "ballast: " << error.message << '\n';
    return 1;
  }
  int operator()(const LsArguments&) const { return print(ls(arguments, output.style)); }
  int operator()(const HostArguments&) const { return print(host(arguments, output.style)); }
  int operator()(const ShowArguments& asked) const {
    return print(show(asked, arguments, output.style));
  }
  int operator()(const WhyArguments& asked) const {
    return print(why(asked, arguments, output.style));
  }
  int operator()(const SetArguments& asked) const { return print(set(asked, arguments)); }
  int operator()(const WhatIfArguments& asked) const {
    return print(what_if(asked, arguments, output.style));
  }
  int operator()(const OptionsArguments& asked) const {
    return print(options(asked, arguments, output.style));
  }
  int operator()(const ReserveArguments& asked) const { return print(reserve(asked, arguments)); }
  int operator()(const UnreserveArguments& asked) const {
    return print(unreserve(asked, arguments));
  }
  int operator()(const ReclaimArguments& asked) const { return print(reclaim(asked, arguments)); }
  int operator()(const DoctorArguments& asked) const { return doctor(asked, arguments, output); }
  int operator()(const ResumeArguments& asked) const { return print(resume(asked, arguments)); }
  int operator()(const VersionArguments&) const { return print(version(arguments)); }
  int operator()(const TopArguments& asked) const {
    if (arguments.json)
      return fail(Error{
          "top has no JSON: 'ballast top -b' prints CSV, 'ballast host --json' all numbers once"});
    return top::run_top({.run_dir = arguments.run_dir,
                         .batch = asked.batch,
                         .delay_seconds = asked.delay_seconds,
                         .count = asked.count},
                        output.out, output.err);
  }
  int operator()(const EventsArguments& asked) const {
    const Status status = events(asked, arguments, output);
    return status ? 0 : fail(status.error());
  }
  int operator()(const RunArguments& asked) const { return fail(run(asked, arguments.run_dir)); }
};

}  // namespace

int execute(const Arguments& arguments, const Output& output) {
  return std::visit(Executor{arguments, output}, arguments.command);
}

}  // namespace ballast::cli
