// VmReport and HostReport: one moment of a VM and of the host, as `ballast ls`, `show`, `host`
// print them. Plain data.
//
// Every byte count is in bytes. consumed = resident + compressed arena + overhead; the host's
// consumed is the sum over its VMs plus the daemon's own tables, and never exceeds budget.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/vm_spec.h"

namespace ballast {

struct VmReport {
  VmSpec spec;
  int32_t pid = 0;
  std::string state;          // "running", "paused", "leaving"
  std::string pause_reason;   // why, when paused
  uint64_t target_bytes = 0;  // what the policy wants it to consume
  uint64_t consumed_bytes = 0;
  uint64_t resident_bytes = 0;    // frames of its RAM file
  uint64_t arena_bytes = 0;       // frames of its compression cache
  uint64_t overhead_bytes = 0;    // pmap, checksums, buffers
  uint64_t compressed_bytes = 0;  // guest memory held in the cache, uncompressed size
  uint64_t swapped_bytes = 0;
  uint64_t zero_bytes = 0;       // known-zero pages that were dropped
  uint64_t ballooned_bytes = 0;  // given up by the guest (balloon, free-page reports)
  uint64_t swap_reserved_bytes = 0;
  uint64_t lost_pages = 0;
  // Since the VM started (or the last take-over by a new daemon).
  uint64_t faults = 0;  // all events served
  uint64_t first_touches = 0;
  uint64_t unzips = 0;        // pages decompressed for a fault
  uint64_t swap_ins = 0;      // pages read for a fault, read-ahead included
  uint64_t zips = 0;          // pages compressed
  uint64_t swap_outs = 0;     // pages written
  uint64_t clean_drops = 0;   // pages reclaimed again without being rewritten
  uint64_t waits = 0;         // faults that had to wait for memory
  uint64_t fault_p50_ns = 0;  // service time, event read → woken
  uint64_t fault_p99_ns = 0;
};

struct HostReport {
  uint64_t budget_bytes = 0;  // --memory
  uint64_t consumed_bytes = 0;
  uint64_t peak_consumed_bytes = 0;
  uint64_t free_bytes = 0;
  uint64_t promised_bytes = 0;  // sum of configured sizes
  uint64_t min_bytes = 0;       // sum of mins
  uint64_t daemon_bytes = 0;    // the daemon's own tables, not any VM's
  std::string state;            // high, clear, soft, hard, low
  uint64_t uptime_ns = 0;
  std::vector<VmReport> vms;
};

struct Event {
  uint64_t sequence = 0;
  uint64_t unix_ms = 0;
  std::string severity;  // info, warning, error
  std::string vm;        // empty: the host
  std::string kind;      // stable dotted word: vm.admitted, swap.failed, …
  std::string message;
};

}  // namespace ballast
