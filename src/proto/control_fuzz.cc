// libFuzzer: whatever a client sends as one line, answer() gives one object with "ok", on one line.
//
//   build-fuzz/bin/control_fuzz -max_total_time=60
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "proto/control.h"
#include "proto/report_json.h"

namespace {

ballast::proto::ControlService make_service() {
  using namespace ballast;
  proto::ControlService service;
  service.version = "fuzz";
  service.host = [] {
    HostReport host;
    host.vms.resize(2);
    host.vms[0].spec.name = "a";
    host.vms[1].spec.name = "b";
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
    BALLAST_CHECK(spec.configured_bytes >= spec.allocation.min_bytes);
    return Done{};
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
  return 0;
}
