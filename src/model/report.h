// VmReport and HostReport: one moment of a VM and of the host, as `ballast ls`, `show`, `why`,
// `host` print them. Plain data.
//
// Every byte count is in bytes. consumed = resident + compressed arena + overhead + its part of
// shared frames; the host's consumed is the sum over its VMs plus the daemon's own tables, and
// never exceeds budget.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/power_on.h"
#include "model/vm_spec.h"

namespace ballast {

struct VmReport {
  VmSpec spec;  // its allocation as it is now
  int32_t pid = 0;
  std::string state;          // "running", "paused", "leaving"
  std::string pause_reason;   // why, when paused
  uint64_t target_bytes = 0;  // what the policy wants it to consume at most
  uint64_t consumed_bytes = 0;
  uint64_t resident_bytes = 0;    // frames of its RAM file
  uint64_t arena_bytes = 0;       // frames of its compression cache
  uint64_t arena_max_bytes = 0;   // what those may become
  uint64_t overhead_bytes = 0;    // pmap, checksums, buffers
  uint64_t compressed_bytes = 0;  // guest memory held in the cache, uncompressed size
  uint64_t swapped_bytes = 0;
  uint64_t zero_bytes = 0;       // known-zero pages that were dropped
  uint64_t ballooned_bytes = 0;  // given up by the guest (balloon, free-page reports)
  uint64_t swap_reserved_bytes = 0;
  uint64_t swap_target_bytes = 0;  // what paging is to make of swapped_bytes, as things are
  uint64_t lost_pages = 0;
  // Page sharing (engine/share). consumed_bytes includes the VM's part of its group's frames.
  uint64_t shared_bytes = 0;      // guest memory mapped to shared frames
  uint64_t share_part_bytes = 0;  // its part of those frames, by pages
  uint64_t share_hints = 0;       // pages whose content is known to the table
  uint64_t share_scanned = 0;     // pages looked at for sharing, since start
  uint64_t share_joins = 0;       // pages that gave their frame up for a shared one
  uint64_t share_breaks = 0;      // shared pages that were written
  uint64_t share_rate = 0;        // pages/s it is scanned at now
  std::string share_note;         // why it is not scanned, or in what way; empty: nothing to say
  // What waits until the VM is powered on anew.
  PowerOn power_on;              // kept by `ballast set`
  std::string next_share_group;  // the group it will be in then, as things are
  // How the target came about (engine/policy).
  uint64_t shares = 0;      // the number: presets are resolved
  uint64_t want_bytes = 0;  // what it would consume if it were alone: in use, and some to grow
  std::string bound;        // what decides its target: "min", "max", "limit", "want", "shares"
  bool blocked = false;     // state low, and above its target: its next fault waits
  // Active memory: touched within a sampling period of the VM's own time.
  uint64_t active_bytes = 0;        // the estimate: the largest of slow, fast and now
  uint64_t active_error_bytes = 0;  // ± at 95 % confidence
  uint64_t active_slow_bytes = 0;
  uint64_t active_fast_bytes = 0;
  uint64_t active_now_bytes = 0;  // of the period under way
  uint64_t samples = 0;           // periods so far; 0: no estimate yet, all counts as active
  // Balloon.
  std::string balloon_state;          // words of BalloonCondition (engine/policy/balloon_pilot.h)
  uint64_t balloon_bytes = 0;         // its size now, as QEMU says
  uint64_t balloon_target_bytes = 0;  // what it was asked for
  uint64_t balloon_max_bytes = 0;
  uint64_t guest_total_bytes = 0;      // what the guest itself tells; 0: it does not
  uint64_t guest_available_bytes = 0;  // its MemAvailable
  // Since the VM started (or the last take-over by a new daemon).
  uint64_t faults = 0;  // all events served
  uint64_t first_touches = 0;
  uint64_t unzips = 0;         // pages decompressed for a fault
  uint64_t swap_ins = 0;       // pages read for a fault, read-ahead included
  uint64_t zips = 0;           // pages compressed
  uint64_t swap_outs = 0;      // pages written
  uint64_t brought_back = 0;   // pages read in the background, before they were missed
  uint64_t clean_drops = 0;    // pages reclaimed again without being rewritten
  uint64_t waits = 0;          // faults that had to wait for memory
  uint64_t sample_faults = 0;  // faults that sampling cost the guest
  uint64_t fault_p50_ns = 0;   // service time, event read → woken
  uint64_t fault_p99_ns = 0;
  uint64_t last_zip_unix_ms = 0;       // when pages were last compressed; 0: never
  uint64_t last_swap_out_unix_ms = 0;  // when pages were last swapped out; 0: never
};

// Memory promised ahead to a VM that is not there yet.
struct Reservation {
  std::string vm;
  uint64_t configured_bytes = 0;
  uint64_t min_bytes = 0;
  uint64_t left_ns = 0;  // until it ends by itself
};

// One salt group.
struct ShareGroupReport {
  std::string name;
  uint64_t vms = 0;
  uint64_t common_bytes = 0;  // frames
  uint64_t shared_bytes = 0;  // guest memory mapped to them
  uint64_t hints = 0;
};

struct HostReport {
  uint64_t machine_total_bytes = 0;      // the host's memory, as its kernel counts; 0: not known
  uint64_t machine_available_bytes = 0;  // of it, what could be used without swapping
  uint64_t budget_bytes = 0;             // --memory
  uint64_t consumed_bytes = 0;
  uint64_t peak_consumed_bytes = 0;
  uint64_t free_bytes = 0;
  uint64_t promised_bytes = 0;  // sum of configured sizes
  uint64_t min_bytes = 0;       // sum of mins
  uint64_t daemon_bytes = 0;    // the daemon's own tables, not any VM's
  std::string state;            // high, clear, soft, hard, low
  uint64_t state_ns = 0;        // for how long
  uint64_t min_free_bytes = 0;  // what the thresholds are percentages of
  uint64_t soft_bytes = 0;      // free memory below which the state is soft (hard, low)
  uint64_t hard_bytes = 0;
  uint64_t low_bytes = 0;
  uint64_t divided_bytes = 0;     // what the targets divide among the VMs
  uint64_t unreserved_bytes = 0;  // what the mins of further VMs may still take
  // How much more the VMs want than there is to divide; averages over the last minutes.
  uint64_t overcommit_1min_percent = 0;
  uint64_t overcommit_5min_percent = 0;
  uint64_t overcommit_15min_percent = 0;
  uint64_t idle_tax_percent = 0;
  std::string idle_tax_type;  // "flat", "variable"
  uint64_t uptime_ns = 0;
  std::vector<Reservation> reservations;
  uint64_t share_tables_bytes = 0;  // of daemon_bytes' kind: hash tables and frame counts
  std::vector<ShareGroupReport> share_groups;
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
