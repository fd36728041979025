// For tests: a host with N VMs whose every number is its own.
#pragma once

#include <fmt/format.h>

#include "model/report.h"
#include "proto/control.h"

namespace ballast::web {

inline HostReport make_host(size_t vms) {
  constexpr uint64_t kMegabyte = 1u << 20;
  HostReport host;
  host.budget_bytes = (vms + 1) * 100 * kMegabyte;
  host.state = "soft";
  host.state_ns = 2'500'000'000;
  host.uptime_ns = 90'000'000'000;
  host.daemon_bytes = 10 * kMegabyte;
  host.consumed_bytes = host.daemon_bytes;
  for (size_t i = 0; i < vms; ++i) {
    VmReport vm;
    vm.spec.name = fmt::format("vm{}", i);
    vm.spec.uuid = fmt::format("00000000-0000-4000-8000-{:012}", i);
    vm.spec.configured_bytes = 256 * kMegabyte;
    vm.state = "running";
    vm.bound = "shares";
    vm.resident_bytes = (60 + i % 30) * kMegabyte;
    vm.share_part_bytes = kMegabyte;
    vm.shared_bytes = 4 * kMegabyte;
    vm.arena_bytes = 2 * kMegabyte;
    vm.overhead_bytes = kMegabyte;
    vm.consumed_bytes = vm.resident_bytes + 4 * kMegabyte;
    vm.target_bytes = 90 * kMegabyte;
    vm.compressed_bytes = 6 * kMegabyte;
    vm.swapped_bytes = 8 * kMegabyte;
    vm.balloon_bytes = 16 * kMegabyte;
    vm.faults = 1000 + i;
    vm.waits = i;
    vm.fault_p99_ns = 850'000;
    host.consumed_bytes += vm.consumed_bytes;
    host.promised_bytes += vm.spec.configured_bytes;
    host.vms.push_back(std::move(vm));
  }
  host.free_bytes = host.budget_bytes - host.consumed_bytes;
  host.share_groups = {{"salt:web", vms, 10 * kMegabyte, 40 * kMegabyte, 7}};
  return host;
}

// What the event log gives: 3 events, of vm0, the host, vm0.
inline proto::ControlService make_events() {
  proto::ControlService service;
  service.version = "1.2.3";
  service.last_event = [] { return uint64_t{3}; };
  service.events = [](uint64_t since) {
    std::vector<Event> events;
    for (uint64_t i = since + 1; i <= 3; ++i) {
      events.push_back({i, 1'700'000'000'000 + i, "info", i == 2 ? "" : "vm0", "a.b",
                        fmt::format("event {}", i)});
    }
    return events;
  };
  return service;
}

}  // namespace ballast::web
