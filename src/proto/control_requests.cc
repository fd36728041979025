#include "proto/control_requests.h"

#include <algorithm>
#include <set>

#include "base/units.h"
#include "model/salt.h"
#include "proto/control.h"

namespace ballast::proto {

namespace {

using nlohmann::json;

constexpr uint64_t kNone = ~uint64_t{0};
static_assert(kNone == kNoLimit && kNone == kDefaultBalloonMax);

constexpr std::string_view kAllocationMembers[] = {"min_bytes", "limit_bytes", "shares",
                                                   "balloon_max_bytes"};

bool is_one_of(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

json number_or_null(uint64_t bytes) { return bytes == kNone ? json() : json(bytes); }

// null stands for "none", so the number that stands for it inside must not come from outside.
Result<uint64_t> bytes_or_none(const json& request, const char* name) {
  const json& member = request.at(name);
  if (member.is_null()) return kNone;
  if (!member.is_number_unsigned() || member.get<uint64_t>() == kNone) {
    return Error{fmt::format("\"{}\" needs a whole number of bytes, or null for none", name)};
  }
  return member.get<uint64_t>();
}

Result<Shares> shares_member(const json& request) {
  const json& member = request.at("shares");
  if (member.is_string()) return parse_shares(member.get_ref<const std::string&>());
  return parse_shares(member.dump(-1, ' ', false, json::error_handler_t::replace));
}

Status check_members(const json& request, std::initializer_list<std::string_view> others) {
  for (const auto& [name, value] : request.items()) {
    if (std::ranges::find(kAllocationMembers, name) != std::end(kAllocationMembers)) continue;
    if (!is_one_of(name, others)) {
      return Error{fmt::format("{} is not known here; known are {}, {}", in_quotes(name),
                               fmt::join(others, ", "), fmt::join(kAllocationMembers, ", "))};
    }
  }
  return Done{};
}

Result<AllocationChange> read_change(const json& request) {
  AllocationChange change;
  if (request.contains("min_bytes")) {
    BALLAST_TRY(change.min_bytes, number_member(request, "min_bytes"));
  }
  if (request.contains("limit_bytes")) {
    BALLAST_TRY(change.limit_bytes, bytes_or_none(request, "limit_bytes"));
  }
  if (request.contains("shares")) {
    BALLAST_TRY(change.shares, shares_member(request));
  }
  if (request.contains("balloon_max_bytes")) {
    BALLAST_TRY(change.balloon_max_bytes, bytes_or_none(request, "balloon_max_bytes"));
  }
  return change;
}

Result<PowerOnChange> read_power_on(const json& request) {
  PowerOnChange change;
  if (const auto member = request.find("salt"); member != request.end()) {
    if (!member->is_string() && !member->is_null()) {
      return Error{"\"salt\" needs a text, or null for what the VM is started with"};
    }
    change.salt = member->is_null() ? std::string() : member->get<std::string>();
    if (member->is_string()) BALLAST_TRY_STATUS(check_salt(*change.salt));
  }
  if (const auto member = request.find("pshare"); member != request.end()) {
    if (!member->is_boolean() && !member->is_null()) {
      return Error{"\"pshare\" needs true, false, or null for what the VM is started with"};
    }
    change.sharing = member->is_null()     ? PageSharing::kAsStarted
                     : member->get<bool>() ? PageSharing::kOn
                                           : PageSharing::kOff;
  }
  return change;
}

// The elements of an array of objects that may be missing.
Result<std::vector<json>> objects_member(const json& request, const char* name) {
  const auto member = request.find(name);
  if (member == request.end()) return std::vector<json>{};
  const bool good = member->is_array() && std::all_of(member->begin(), member->end(),
                                                      [](const json& e) { return e.is_object(); });
  if (!good) return Error{fmt::format("\"{}\" must be an array of objects", name)};
  return member->get<std::vector<json>>();
}

}  // namespace

json to_json(const AllocationChange& change) {
  json result = json::object();
  if (change.min_bytes) result["min_bytes"] = *change.min_bytes;
  if (change.limit_bytes) result["limit_bytes"] = number_or_null(*change.limit_bytes);
  if (change.shares) result["shares"] = format_shares(*change.shares);
  if (change.balloon_max_bytes) {
    result["balloon_max_bytes"] = number_or_null(*change.balloon_max_bytes);
  }
  return result;
}

json to_json(const VmChange& change) {
  json result = to_json(change.allocation);
  const PowerOnChange& power_on = change.power_on;
  if (power_on.salt) result["salt"] = power_on.salt->empty() ? json() : json(*power_on.salt);
  if (power_on.sharing) {
    result["pshare"] = *power_on.sharing == PageSharing::kAsStarted
                           ? json()
                           : json(*power_on.sharing == PageSharing::kOn);
  }
  return result;
}

json to_json(const VmSpec& spec) {
  json result = to_json(AllocationChange{
      .min_bytes = spec.allocation.min_bytes,
      .limit_bytes = spec.allocation.limit_bytes,
      .shares = spec.allocation.shares,
      .balloon_max_bytes = spec.allocation.balloon_max_bytes,
  });
  result["name"] = spec.name;
  result["memory_bytes"] = spec.configured_bytes;
  return result;
}

json to_json(const WhatIfQuestion& question) {
  json add = json::array();
  for (const VmSpec& spec : question.add) add.push_back(to_json(spec));
  json set = json::array();
  for (const auto& [vm, change] : question.set) {
    set.push_back(to_json(change));
    set.back()["vm"] = vm;
  }
  return {{"add", std::move(add)}, {"set", std::move(set)}};
}

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

Result<VmSpec> spec_from_json(const json& request, std::initializer_list<std::string_view> others) {
  BALLAST_TRY_STATUS(check_members(request, others));
  VmSpec spec;
  BALLAST_TRY(spec.name, text_member(request, "name"));
  BALLAST_TRY(spec.configured_bytes, number_member(request, "memory_bytes"));
  BALLAST_TRY(const AllocationChange change, read_change(request));
  spec.allocation = apply(spec.allocation, change);
  BALLAST_TRY_STATUS(check_vm_spec(spec));
  return spec;
}

Result<VmChange> vm_change_from_json(const json& request) {
  BALLAST_TRY_STATUS(check_members(request, {"op", "vm", "salt", "pshare"}));
  VmChange change;
  BALLAST_TRY(change.allocation, read_change(request));
  BALLAST_TRY(change.power_on, read_power_on(request));
  if (change == VmChange{}) {
    return Error{fmt::format("nothing to change: give one of {}, salt, pshare",
                             fmt::join(kAllocationMembers, ", "))};
  }
  return change;
}

Result<AllocationChange> change_from_json(const json& request,
                                          std::initializer_list<std::string_view> others) {
  BALLAST_TRY_STATUS(check_members(request, others));
  BALLAST_TRY(AllocationChange change, read_change(request));
  if (change == AllocationChange{}) {
    return Error{
        fmt::format("nothing to change: give one of {}", fmt::join(kAllocationMembers, ", "))};
  }
  return change;
}

Result<VmReport> find_vm(const HostReport& host, const json& request) {
  BALLAST_TRY(const std::string name, text_member(request, "vm"));
  const auto vm = std::ranges::find(host.vms, name, [](const VmReport& v) { return v.spec.name; });
  if (vm != host.vms.end()) return *vm;
  if (host.vms.empty()) {
    return Error{fmt::format("no VM is named {}: none is running", in_quotes(name))};
  }
  return Error{
      fmt::format("no VM is named {}; 'ballast ls' lists those there are", in_quotes(name))};
}

Status check_change(const VmReport& vm, const AllocationChange& change) {
  return check_allocation("VM " + vm.spec.name, apply(vm.spec.allocation, change),
                          vm.spec.configured_bytes);
}

Result<WhatIfQuestion> question_from_json(const HostReport& host, const json& request) {
  BALLAST_TRY(const std::vector<json> add, objects_member(request, "add"));
  BALLAST_TRY(const std::vector<json> set, objects_member(request, "set"));
  if (add.size() + set.size() > kWhatIfVmsMax) {
    return Error{fmt::format("a question about {} VMs is refused: at most {} are possible",
                             add.size() + set.size(), kWhatIfVmsMax)};
  }
  WhatIfQuestion question;
  std::set<std::string> names;
  for (const VmReport& vm : host.vms) names.insert(vm.spec.name);
  for (const json& element : add) {
    BALLAST_TRY(VmSpec spec, spec_from_json(element, {"name", "memory_bytes"}));
    if (!names.insert(spec.name).second) {
      return Error{fmt::format("a VM named {} is there already; names must differ", spec.name)};
    }
    question.add.push_back(std::move(spec));
  }
  names.clear();
  for (const json& element : set) {
    BALLAST_TRY(const VmReport vm, find_vm(host, element));
    BALLAST_TRY(AllocationChange change, change_from_json(element, {"vm"}));
    BALLAST_TRY_STATUS(check_change(vm, change));
    if (!names.insert(vm.spec.name).second) {
      return Error{
          fmt::format("VM {} is changed twice; give all its changes at once", vm.spec.name)};
    }
    question.set.emplace_back(vm.spec.name, change);
  }
  return question;
}

}  // namespace ballast::proto
