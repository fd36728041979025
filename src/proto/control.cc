#include "proto/control.h"

#include <unistd.h>

#include <algorithm>

#include "base/units.h"
#include "proto/report_json.h"

namespace ballast::proto {

namespace {

using nlohmann::json;

json ok_answer() { return {{"ok", true}}; }

json not_supported(std::string_view op) {
  return error_answer(fmt::format("this daemon does not support \"{}\"", op));
}

// Outside text inside our sentences: short, and no control characters.
std::string in_quotes(std::string_view text) {
  constexpr size_t kShown = 80;
  std::string shown(text.substr(0, kShown));
  std::replace_if(
      shown.begin(), shown.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  return fmt::format("'{}{}'", shown, text.size() > kShown ? "..." : "");
}

Result<std::string> text_member(const json& request, const char* name) {
  const auto member = request.find(name);
  if (member == request.end() || !member->is_string()) {
    return Error{fmt::format("the request needs \"{}\", a text", name)};
  }
  return member->get<std::string>();
}

Result<uint64_t> number_member(const json& request, const char* name) {
  const auto member = request.find(name);
  if (member == request.end() || !member->is_number_unsigned()) {
    return Error{fmt::format("the request needs \"{}\", a whole number from 0", name)};
  }
  return member->get<uint64_t>();
}

Result<VmReport> find_vm(const json& request, const ControlService& service) {
  BALLAST_TRY(const std::string name, text_member(request, "vm"));
  HostReport host = service.host();
  for (VmReport& vm : host.vms) {
    if (vm.spec.name == name) return std::move(vm);
  }
  if (host.vms.empty()) {
    return Error{fmt::format("no VM is named {}: none is running", in_quotes(name))};
  }
  return Error{
      fmt::format("no VM is named {}; 'ballast ls' lists those there are", in_quotes(name))};
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
  const auto vm = find_vm(request, service);
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
  const auto vm = find_vm(request, service);
  if (!vm) return error_answer(vm.error().message);
  const Status resumed = service.resume(vm->spec.name);
  return resumed ? ok_answer() : error_answer(resumed.error().message);
}

json answer_reclaim(const json& request, const ControlService& service) {
  if (!service.host || !service.reclaim) return not_supported("reclaim");
  const auto vm = find_vm(request, service);
  if (!vm) return error_answer(vm.error().message);
  const auto bytes = number_member(request, "bytes");
  if (!bytes) return error_answer(bytes.error().message);
  const Status started = service.reclaim(vm->spec.name, *bytes);
  return started ? ok_answer() : error_answer(started.error().message);
}

Result<VmSpec> requested_spec(const json& request) {
  VmSpec spec;
  BALLAST_TRY(spec.name, text_member(request, "name"));
  BALLAST_TRY(spec.configured_bytes, number_member(request, "memory_bytes"));
  if (request.contains("min_bytes")) {
    BALLAST_TRY(spec.allocation.min_bytes, number_member(request, "min_bytes"));
  }
  BALLAST_TRY_STATUS(check_vm_spec(spec));
  return spec;
}

json answer_admit(const json& request, const ControlService& service) {
  if (!service.admit) return not_supported("admit");
  const auto spec = requested_spec(request);
  if (!spec) return error_answer(spec.error().message);
  const Status admitted = service.admit(*spec);
  return admitted ? ok_answer() : error_answer(admitted.error().message);
}

struct Operation {
  std::string_view name;
  json (*answer)(const json& request, const ControlService& service);
};

constexpr Operation kOperations[] = {
    {"version", answer_version}, {"ls", answer_ls},           {"show", answer_show},
    {"host", answer_host},       {"events", answer_events},   {"resume", answer_resume},
    {"admit", answer_admit},     {"reclaim", answer_reclaim},
};

}  // namespace

json answer(const json& request, const ControlService& service) {
  if (!request.is_object()) {
    return error_answer(R"(a request is one object on one line, such as {"op":"ls"})");
  }
  const auto op = text_member(request, "op");
  if (!op) return error_answer(op.error().message);
  for (const Operation& operation : kOperations) {
    if (operation.name == *op) return operation.answer(request, service);
  }
  return error_answer(fmt::format(
      "unknown op {}; known are version, ls, show, host, events, resume, reclaim, admit",
      in_quotes(*op)));
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
  if (spec.allocation.min_bytes > spec.configured_bytes) {
    return Error{fmt::format("VM {}: a min of {} exceeds its memory of {}", spec.name,
                             format_size(spec.allocation.min_bytes), format_size(spec.configured_bytes))};
  }
  if (spec.allocation.min_bytes % kPageBytes != 0) {
    return Error{
        fmt::format("VM {}: a min of {} bytes is refused: whole pages of {} bytes are needed",
                    spec.name, spec.allocation.min_bytes, kPageBytes)};
  }
  return Done{};
}

}  // namespace ballast::proto
