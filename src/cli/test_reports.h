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
  vm.brought_back = 321;
  vm.waits = 12;
  vm.sample_faults = 99;
  vm.shares = share_count(vm.spec.allocation.shares, vm.spec.configured_bytes);
  vm.want_bytes = megabytes * kMegabyte * 3 / 4;
  vm.bound = "shares";
  vm.active_bytes = megabytes * kMegabyte / 4;
  vm.active_error_bytes = megabytes * kMegabyte / 32;
  vm.active_slow_bytes = megabytes * kMegabyte / 8;
  vm.active_fast_bytes = megabytes * kMegabyte / 4;
  vm.active_now_bytes = megabytes * kMegabyte / 16;
  vm.samples = 42;
  vm.balloon_state = "inflating";
  vm.balloon_bytes = megabytes * kMegabyte / 8;
  vm.balloon_target_bytes = megabytes * kMegabyte / 4;
  vm.balloon_max_bytes = megabytes * kMegabyte / 2;
  vm.guest_total_bytes = megabytes * kMegabyte * 7 / 8;
  vm.guest_available_bytes = megabytes * kMegabyte / 16;
  vm.last_zip_unix_ms = 1'700'000'000'123;
  vm.fault_p50_ns = 12'345;
  vm.fault_p99_ns = 850'000;
  vm.spec.share_group = vm.next_share_group = "vm:" + vm.spec.name;
  return vm;
}

// All in salt group web: web1 shares 38 MB, db what is equal in its own memory, the third not yet.
inline void share_pages(HostReport& host) {
  constexpr uint64_t kMegabyte = 1u << 20;
  for (VmReport& vm : host.vms) {
    vm.spec.salt = "web";
    vm.spec.share_group = vm.next_share_group = "salt:web";
    vm.share_rate = 1024;
    vm.share_scanned = 65'536;
    vm.share_hints = 5678;
  }
  VmReport& web1 = host.vms[0];
  web1.shared_bytes = 38 * kMegabyte;
  web1.share_part_bytes = 9 * kMegabyte;
  web1.consumed_bytes += web1.share_part_bytes;
  web1.share_joins = 9876;
  web1.share_breaks = 148;
  VmReport& db = host.vms[1];
  db.shared_bytes = 2 * kMegabyte;
  db.share_part_bytes = kMegabyte;
  db.consumed_bytes += db.share_part_bytes;
  host.share_tables_bytes = kMegabyte;
  host.share_groups = {
      {"salt:web", 3, 10 * kMegabyte, 40 * kMegabyte, 17'034},
      {"vm:5c1e", 1, 0, 0, 12},
      {"uuid:12345678-1234-1234-1234-123456789abc", 1, kMegabyte, 3 * kMegabyte, 4096}};
}

inline Observation make_observation() {
  Observation observation;
  HostReport& host = observation.now;
  host.vms = {make_vm("web1", 256), make_vm("db", 1024),
              make_vm("build-farm-of-the-kernel-team", 256)};
  host.vms[0].spec.salt = "web";
  host.vms[0].spec.share_group = host.vms[0].next_share_group = "salt:web";
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
  host.state_ns = 185'000'000'000;
  host.min_free_bytes = 64ull << 20;
  host.soft_bytes = 41ull << 20;
  host.hard_bytes = 20ull << 20;
  host.low_bytes = 10ull << 20;
  host.divided_bytes = 860ull << 20;
  host.unreserved_bytes = 512ull << 20;
  host.idle_tax_percent = 75;
  host.idle_tax_type = "variable";
  host.reservations = {{"later", 512ull << 20, 128ull << 20, 600'000'000'000}};
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
