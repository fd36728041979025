// For tests: a host with four VMs in different straits.
#pragma once

#include "cli/rates.h"

namespace ballast::cli {

inline VmReport make_vm(std::string name, uint64_t megabytes) {
  constexpr uint64_t kMegabyte = 1u << 20;
  VmReport vm;
  vm.spec = {.name = std::move(name),
             .uuid = "12345678-1234-1234-1234-123456789abc",
             .configured_bytes = megabytes * kMegabyte,
             .allocation = {.min_bytes = megabytes / 4 * kMegabyte}};
  vm.pid = 4711;
  vm.state = "running";
  vm.target_bytes = megabytes / 2 * kMegabyte;
  vm.resident_bytes = megabytes * kMegabyte * 2 / 5;
  vm.arena_bytes = megabytes * kMegabyte / 16;
  vm.overhead_bytes = megabytes * kMegabyte / 256;
  vm.consumed_bytes = vm.resident_bytes + vm.arena_bytes + vm.overhead_bytes;
  vm.compressed_bytes = megabytes * kMegabyte / 8;
  vm.swapped_bytes = megabytes * kMegabyte / 4;
  vm.zero_bytes = 10 * kMegabyte;
  vm.ballooned_bytes = 0;
  vm.swap_reserved_bytes = swap_bytes(vm.spec);
  vm.faults = 123456;
  vm.first_touches = 2048;
  vm.unzips = 34567;
  vm.swap_ins = 4567;
  vm.zips = 45678;
  vm.swap_outs = 5678;
  vm.clean_drops = 678;
  vm.waits = 12;
  vm.fault_p50_ns = 12'345;
  vm.fault_p99_ns = 850'000;
  return vm;
}

inline Observation make_observation() {
  Observation observation;
  HostReport& host = observation.now;
  host.vms = {make_vm("web1", 256), make_vm("db", 1024),
              make_vm("build-farm-of-the-kernel-team", 256)};
  host.vms[1].state = "paused";
  host.vms[1].pause_reason = "page 1234 cannot be read back: its slot fails its checksum";
  host.vms[1].lost_pages = 1;
  host.budget_bytes = 1ull << 30;
  host.consumed_bytes = 900ull << 20;
  host.peak_consumed_bytes = 1020ull << 20;
  host.free_bytes = 124ull << 20;
  host.promised_bytes = 1536ull << 20;
  host.min_bytes = 384ull << 20;
  host.daemon_bytes = 3ull << 20;
  host.state = "soft";
  host.uptime_ns = 7'800'500'000'000;
  observation.before = host;
  observation.before->uptime_ns -= 500'000'000;
  VmReport& earlier = observation.before->vms[0];
  earlier.faults -= 1000;
  earlier.swap_ins -= 50;
  earlier.waits -= 1;
  observation.before->vms.pop_back();  // the last one has just started
  return observation;
}

}  // namespace ballast::cli
