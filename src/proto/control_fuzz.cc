// libFuzzer: whatever a client sends as one line, answer() gives one object with "ok", on one line.
//
//   build-fuzz/bin/control_fuzz -max_total_time=60
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "base/units.h"
#include "model/salt.h"
#include "proto/control.h"
#include "proto/control_requests.h"
#include "proto/report_json.h"

namespace {

void check_spec(const ballast::VmSpec& spec) {
  const auto& allocation = spec.allocation;
  BALLAST_CHECK(spec.configured_bytes > 0 && spec.configured_bytes % ballast::kPageBytes == 0);
  BALLAST_CHECK(allocation.min_bytes <= ballast::max_bytes(allocation, spec.configured_bytes));
  BALLAST_CHECK(ballast::share_count(allocation.shares, spec.configured_bytes) > 0);
}

ballast::proto::ControlService make_service() {
  using namespace ballast;
  proto::ControlService service;
  service.version = "fuzz";
  service.host = [] {
    HostReport host;
    host.vms.resize(2);
    host.vms[0].spec = {.name = "a", .configured_bytes = 1 << 20};
    host.vms[1].spec = {
        .name = "b", .configured_bytes = 1 << 30, .allocation = {.min_bytes = 8192}};
    return host;
  };
  service.events = [](uint64_t since) {
    return since > 3 ? std::vector<Event>() : std::vector<Event>(3);
  };
  service.last_event = [] { return uint64_t{3}; };
  service.resume = [](const std::string& vm) -> Status {
    if (vm == "a") return Done{};
    return Error{vm + " is not paused"};
  };
  service.admit = [](const VmSpec& spec) -> Status {
    check_spec(spec);
    return Done{};
  };
  service.reserve = [](const VmSpec& spec, uint64_t seconds) -> Status {
    check_spec(spec);
    BALLAST_CHECK(seconds > 0 && seconds <= proto::kReserveSecondsMax);
    return Done{};
  };
  service.unreserve = [](const std::string&) -> Status { return Error{"no such reservation"}; };
  service.set = [](const std::string& vm, const VmChange& change) -> Status {
    BALLAST_CHECK(vm == "a" || vm == "b");
    BALLAST_CHECK(change != VmChange{});
    const AllocationChange& allocation = change.allocation;
    BALLAST_CHECK(allocation.min_bytes.value_or(0) <= allocation.limit_bytes.value_or(kNoLimit));
    const std::string salt = change.power_on.salt.value_or("");
    BALLAST_CHECK(salt.empty() || check_salt(salt));
    return Done{};
  };
  service.what_if = [](const WhatIfQuestion& question) {
    for (const VmSpec& spec : question.add) check_spec(spec);
    BALLAST_CHECK(question.set.size() <= 2);
    return WhatIfAnswer{};
  };
  service.options = [] { return Options{}; };
  service.set_option = [](std::string_view name, std::string_view value) -> Result<std::string> {
    Options options;
    BALLAST_CHECK(set_option(options, name, value));
    return std::string();
  };
  return service;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const ballast::proto::ControlService kService = make_service();
  const std::string_view line(reinterpret_cast<const char*>(data), size);
  const auto request = nlohmann::json::parse(line, nullptr, false);
  if (request.is_discarded()) return 0;
  const std::string reply = ballast::proto::to_line(ballast::proto::answer(request, kService));
  BALLAST_CHECK(reply.find('\n') == std::string::npos);
  const auto parsed = nlohmann::json::parse(reply, nullptr, false);
  BALLAST_CHECK(parsed.is_object() && parsed.contains("ok"));
  (void)ballast::proto::host_report_from_json(request);
  (void)ballast::proto::event_from_json(request);
  (void)ballast::proto::option_from_json(request);
  (void)ballast::proto::what_if_from_json(request);
  return 0;
}
