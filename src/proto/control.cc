#include "proto/control.h"

#include <unistd.h>

#include <algorithm>

#include "base/units.h"
#include "proto/control_requests.h"
#include "proto/report_json.h"

namespace ballast::proto {

namespace {

using nlohmann::json;

json ok_answer() { return {{"ok", true}}; }

json not_supported(std::string_view op) {
  return error_answer(fmt::format("this daemon does not support \"{}\"", op));
}

// A VM the service knows, asked for in this request.
Result<VmReport> asked_vm(const json& request, const ControlService& service) {
  return find_vm(service.host(), request);
}

json ok_or_error(const Status& status) {
  return status ? ok_answer() : error_answer(status.error().message);
}

json answer_version(const json&, const ControlService& service) {
  json reply = ok_answer();
  reply["version"] = service.version;
  reply["protocol"] = kControlProtocolVersion;
  reply["pid"] = static_cast<int64_t>(getpid());
  return reply;
}

json answer_ls(const json&, const ControlService& service) {
  if (!service.host) return not_supported("ls");
  json reply = ok_answer();
  reply["vms"] = to_json(service.host())["vms"];
  return reply;
}

json answer_host(const json&, const ControlService& service) {
  if (!service.host) return not_supported("host");
  json reply = ok_answer();
  reply["host"] = to_json(service.host());
  return reply;
}

json answer_show(const json& request, const ControlService& service) {
  if (!service.host) return not_supported("show");
  const auto vm = asked_vm(request, service);
  if (!vm) return error_answer(vm.error().message);
  json reply = ok_answer();
  reply["vm"] = to_json(*vm);
  return reply;
}

json answer_events(const json& request, const ControlService& service) {
  if (!service.events || !service.last_event) return not_supported("events");
  uint64_t since = 0;
  if (request.contains("since")) {
    const auto given = number_member(request, "since");
    if (!given) return error_answer(given.error().message);
    since = *given;
  }
  json reply = ok_answer();
  json& events = reply["events"] = json::array();
  for (const Event& event : service.events(since)) {
    if (events.size() == kEventsMax) break;
    events.push_back(to_json(event));
  }
  reply["last"] = service.last_event();
  return reply;
}

json answer_resume(const json& request, const ControlService& service) {
  if (!service.host || !service.resume) return not_supported("resume");
  const auto vm = asked_vm(request, service);
  if (!vm) return error_answer(vm.error().message);
  return ok_or_error(service.resume(vm->spec.name));
}

json answer_reclaim(const json& request, const ControlService& service) {
  if (!service.host || !service.reclaim) return not_supported("reclaim");
  const auto vm = asked_vm(request, service);
  if (!vm) return error_answer(vm.error().message);
  const auto bytes = number_member(request, "bytes");
  if (!bytes) return error_answer(bytes.error().message);
  return ok_or_error(service.reclaim(vm->spec.name, *bytes));
}

json answer_admit(const json& request, const ControlService& service) {
  if (!service.admit) return not_supported("admit");
  const auto spec = spec_from_json(request, {"op", "name", "memory_bytes"});
  if (!spec) return error_answer(spec.error().message);
  return ok_or_error(service.admit(*spec));
}

json answer_reserve(const json& request, const ControlService& service) {
  if (!service.reserve) return not_supported("reserve");
  const auto spec = spec_from_json(request, {"op", "name", "memory_bytes", "seconds"});
  if (!spec) return error_answer(spec.error().message);
  if (spec->allocation != Allocation{.min_bytes = spec->allocation.min_bytes}) {
    return error_answer("a reservation holds memory_bytes and min_bytes; give the rest at start");
  }
  const auto seconds = number_member(request, "seconds");
  if (!seconds) return error_answer(seconds.error().message);
  if (*seconds == 0 || *seconds > kReserveSecondsMax) {
    return error_answer(fmt::format("a reservation for {} seconds is refused: 1 to {} are possible",
                                    *seconds, kReserveSecondsMax));
  }
  return ok_or_error(service.reserve(*spec, *seconds));
}

json answer_unreserve(const json& request, const ControlService& service) {
  if (!service.unreserve) return not_supported("unreserve");
  const auto name = text_member(request, "name");
  if (!name) return error_answer(name.error().message);
  if (const Status good = check_vm_name(*name); !good) return error_answer(good.error().message);
  return ok_or_error(service.unreserve(*name));
}

json answer_set(const json& request, const ControlService& service) {
  if (!service.host || !service.set) return not_supported("set");
  const auto vm = asked_vm(request, service);
  if (!vm) return error_answer(vm.error().message);
  const auto change = vm_change_from_json(request);
  if (!change) return error_answer(change.error().message);
  if (const Status good = check_change(*vm, change->allocation); !good) {
    return error_answer(good.error().message);
  }
  if (const Status set = service.set(vm->spec.name, *change); !set) {
    return error_answer(set.error().message);
  }
  return answer_show(request, service);
}

json answer_whatif(const json& request, const ControlService& service) {
  if (!service.host || !service.what_if) return not_supported("whatif");
  const auto question = question_from_json(service.host(), request);
  if (!question) return error_answer(question.error().message);
  json reply = ok_answer();
  reply["whatif"] = to_json(service.what_if(*question));
  return reply;
}

json set_option(const OptionInfo& info, const std::string& value, const ControlService& service) {
  if (!service.set_option) return not_supported("options");
  Options options = service.options();
  if (const Status good = ballast::set_option(options, info.name, value); !good) {
    return error_answer(good.error().message);
  }
  const auto note = service.set_option(info.name, value);
  if (!note) return error_answer(note.error().message);
  json reply = ok_answer();
  reply["option"] = to_json(report_option(service.options(), info));
  reply["note"] = *note;
  return reply;
}

json answer_options(const json& request, const ControlService& service) {
  if (!service.options) return not_supported("options");
  std::span<const OptionInfo> asked = all_options();
  if (request.contains("name") || request.contains("value")) {
    const auto name = text_member(request, "name");
    if (!name) return error_answer(name.error().message);
    const auto info = find_option(*name);
    if (!info) return error_answer(info.error().message);
    asked = {*info, 1};
  }
  if (request.contains("value")) {
    const auto value = text_member(request, "value");
    return value ? set_option(asked[0], *value, service) : error_answer(value.error().message);
  }
  json reply = ok_answer();
  json& list = reply["options"] = json::array();
  const Options options = service.options();
  for (const OptionInfo& info : asked) list.push_back(to_json(report_option(options, info)));
  return reply;
}

bool looks(const json&) { return false; }
bool changes(const json&) { return true; }
bool changes_with_value(const json& request) { return request.contains("value"); }

struct Operation {
  std::string_view name;
  json (*answer)(const json& request, const ControlService& service);
  bool (*changes)(const json& request);
};

constexpr Operation kOperations[] = {
    {"version", answer_version, looks},
    {"ls", answer_ls, looks},
    {"show", answer_show, looks},
    {"host", answer_host, looks},
    {"events", answer_events, looks},
    {"resume", answer_resume, changes},
    {"reclaim", answer_reclaim, changes},
    {"admit", answer_admit, looks},
    {"reserve", answer_reserve, changes},
    {"unreserve", answer_unreserve, changes},
    {"set", answer_set, changes},
    {"whatif", answer_whatif, looks},
    {"options", answer_options, changes_with_value},
};

}  // namespace

json answer(const json& request, const ControlService& service, Access access) {
  if (!request.is_object()) {
    return error_answer(R"(a request is one object on one line, such as {"op":"ls"})");
  }
  const auto op = text_member(request, "op");
  if (!op) return error_answer(op.error().message);
  std::string known;
  for (const Operation& operation : kOperations) {
    if (operation.name == *op) {
      if (access == Access::kChange || !operation.changes(request)) {
        return operation.answer(request, service);
      }
      return error_answer(
          fmt::format("{} changes something, and you may only look; ask as root, for example "
                      "with sudo",
                      in_quotes(*op)));
    }
    known += fmt::format("{}{}", known.empty() ? "" : ", ", operation.name);
  }
  return error_answer(fmt::format("unknown op {}; known are {}", in_quotes(*op), known));
}

json error_answer(std::string_view message) {
  return {{"ok", false}, {"error", std::string(message)}};
}

Status check_vm_name(std::string_view name) {
  const auto is_allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  const bool good = !name.empty() && name.size() <= kVmNameBytesMax && name.front() != '-' &&
                    name.front() != '.' && std::all_of(name.begin(), name.end(), is_allowed);
  if (good) return Done{};
  return Error{fmt::format(
      "{} is no name for a VM: 1 to {} letters, digits, '.', '_' and '-', beginning with a letter, "
      "a digit or '_'",
      in_quotes(name), kVmNameBytesMax)};
}

Status check_vm_spec(const VmSpec& spec) {
  BALLAST_TRY_STATUS(check_vm_name(spec.name));
  constexpr uint64_t kMaximum = pages_to_bytes(uint64_t{1} << 32) - kPageBytes;
  if (spec.configured_bytes == 0 || spec.configured_bytes % kPageBytes != 0 ||
      spec.configured_bytes > kMaximum) {
    return Error{fmt::format(
        "VM {}: memory of {} bytes is refused: whole pages of {} bytes are needed, below 16 TB",
        spec.name, spec.configured_bytes, kPageBytes)};
  }
  return check_allocation("VM " + spec.name, spec.allocation, spec.configured_bytes);
}

}  // namespace ballast::proto
