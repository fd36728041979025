// Pager: the engine for one VM: faults in, memory management out. The facade of this folder.
//
// All calls come from the VM's worker, except where noted. No call blocks on a disk, on another VM
// or on the guest; each is bounded, so the worker's loop decides what goes first: faults, then
// completions, then background turns.
#pragma once

#include <memory>
#include <mutex>
#include <span>

#include "base/result.h"
#include "engine/fault/fault_server.h"
#include "engine/reclaim/reclaimer.h"
#include "engine/sample/active_sampler.h"
#include "engine/share/share_scan.h"
#include "engine/swap/swap_io.h"
#include "engine/vm.h"
#include "model/report.h"

namespace ballast::engine {

class Pager {
 public:
  // What the store must offer for a VM of so many pages.
  static size_t tables_bytes(uint32_t pages);
  static size_t arena_bytes(uint32_t pages);  // sparse
  // Charged for a VM from its start: pmap, buffers, its part of the share table.
  static uint64_t overhead_bytes(uint32_t pages, bool shares = false);
  // The salt group of a VM in the tables that an earlier daemon left; empty: none.
  static std::string kept_group(std::span<const std::byte> tables) { return Tables::group(tables); }

  // A new VM over fresh stores. Fails when the overhead does not fit the budget.
  static Result<std::unique_ptr<Pager>> create(const VmSpec& spec, const PagerParts& parts);
  // A VM that an earlier daemon served. Checks everything it finds, rebuilds, and wakes all
  // sleepers.
  static Result<std::unique_ptr<Pager>> take_over(const VmSpec& spec, const PagerParts& parts);
  ~Pager();
  Pager(const Pager&) = delete;
  Pager& operator=(const Pager&) = delete;

  void handle(std::span<const machine::Fault> faults);
  // After the VM's side said that discard bits are set.
  void take_discards();
  // True if completions were handled.
  bool poll_io();
  // One bounded step of background work. True: call again soon; false: nothing to do until a fault,
  // a completion, or (while has_waiting_faults or the host is short) some milliseconds have passed.
  bool turn();
  // The VM's run time at which turn() has work even if nothing happens; ActiveSampler::kNever.
  Nanoseconds next_due() const;
  ActiveSampler::Estimate active() const { return sampler_.estimate(); }
  // Options of sampling or of page sharing changed.
  void set_options(const Options& options);
  // Takes this many pages from the VM now, whatever its target, as far as its stores take them;
  // never below its min.
  void reclaim(uint64_t pages);
  // The swap device offers more slots than before.
  void swap_grew();
  // Tries Lost pages again (an operator repaired the disk). Returns how many.
  uint32_t retry_lost();

  bool has_waiting_faults() const { return faults_.waiting(); }
  bool has_io_in_flight() const { return io_.busy(); }
  // A swap read is under way: a fault will be answered as soon as the disk has.
  bool is_reading() const { return io_.reading(); }
  bool gone() const { return vm_.gone; }
  // The VM has died: what it shared is given back with the pager.
  void note_death() { vm_.gone = true; }
  const VmSpec& spec() const { return vm_.spec; }

  void set_orders(const Orders& orders) { vm_.orders.set(orders); }  // any thread
  // Whether the worker would find something to page or to bring back, as of its last report; it
  // sleeps otherwise. Any thread.
  bool wants_to_move() const;
  VmReport report() const;  // any thread

  // Recounts pages, frames, slots and charges against the tables and the RAM file; a difference is
  // a bug.
  void audit() const;

 private:
  Pager(const VmSpec& spec, const PagerParts& parts, Tables tables);
  Status charge_overhead(bool existing);
  bool may_reclaim_for_waiting() const;
  void note_stall(bool moves);
  void publish();
  bool share(bool busy);

  Vm vm_;
  ActiveSampler sampler_;
  SwapIo io_;
  Away away_;
  Sharer sharer_;
  ShareScan scan_;
  BringBack bring_back_;
  FaultServer faults_;
  Reclaimer reclaimer_;
  uint32_t share_pass_seconds_ = 0;
  uint32_t share_rate_ = ~uint32_t{0};  // as ordered last
  uint64_t asked_pages_ = 0;            // by reclaim()
  uint64_t faults_seen_ = 0;            // at the last turn
  Nanoseconds stalled_since_ = 0;       // reclaim was needed and nothing could be moved; 0 = not
  bool stall_reported_ = false;

  mutable std::mutex report_lock_;  // guards what follows, held for a copy only
  VmReport report_;
  uint32_t share_slowed_ = 1;
  bool share_full_ = false;  // no more mappings
};

}  // namespace ballast::engine
