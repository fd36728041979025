// Vm: everything one VM's worker works on, and the few moves that every part of the engine makes
// the same way.
//
// The parts (fault/, reclaim/, swap/, recover/) hold a Vm& and nothing of each other's state.
// Invariants:
//   - every frame of the RAM file that an entry claims (Resident, Sealed) is charged to the ledger,
//   from before
//     it exists until after it is gone;
//   - an entry changes only through set(), which knows the allowed transitions;
//   - whoever replaces a payload (arena slot, swap slot) frees the old one after the new entry is
//   stored.
// Worker only, except orders.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "engine/compress/codec.h"
#include "engine/compress/zip_cache.h"
#include "engine/ledger/ledger.h"
#include "engine/pmap/tables.h"
#include "engine/swap/slot_map.h"
#include "machine/clock.h"
#include "machine/guest_memory.h"
#include "machine/swap_device.h"
#include "machine/vm_control.h"
#include "machine/vm_store.h"
#include "model/options.h"
#include "model/vm_spec.h"

namespace ballast::engine {

class ActiveSampler;
class Away;
class ShareGroup;

struct PagerParts {
  machine::GuestMemory& memory;
  machine::SwapDevice& swap;
  machine::VmStore& store;
  machine::VmControl& control;
  const machine::Clock& clock;
  Ledger& ledger;
  Options options;
  uint64_t seed = 1;  // of victim choice, and of a new VM's checksum key
  // The salt group that the VM entered, and its number there; null: it shares nothing.
  ShareGroup* share = nullptr;
  uint32_t share_member = 0;
  uint64_t share_mappings_max = 1 << 20;  // what sharing may cost the VM's process in mappings
};

// Since the VM started, or since this daemon took it over.
struct VmCounters {
  uint64_t faults = 0;
  uint64_t first_touches = 0;
  uint64_t unzips = 0;
  uint64_t swap_ins = 0;
  uint64_t zips = 0;
  uint64_t swap_outs = 0;
  uint64_t brought_back = 0;
  uint64_t clean_drops = 0;
  uint64_t zero_drops = 0;
  uint64_t waits = 0;
  uint64_t discards = 0;
  uint64_t share_scanned = 0;
  uint64_t share_joins = 0;
  uint64_t share_breaks = 0;
};

// Why a VM is frozen whose page has no true copy any more.
inline constexpr const char* kPageIsLost = "a page could not be read back; see ballast events";

inline constexpr uint64_t kNoFloor = ~uint64_t{0};
// How far a VM may run ahead of its own paging at its limit.
inline constexpr uint64_t kLimitSlackBytes = uint64_t{1} << 20;

// What the host's policy asks of one VM: bytes of consumption, overhead included, except min.
struct Orders {
  uint64_t target_bytes = 0;
  // In the soft state the VM is paged down to this: its target and what its balloon can still take.
  // In the states hard and low it is paged down to its target.
  uint64_t soft_floor_bytes = kNoFloor;
  // Above its limit: paged down to this in any state.
  uint64_t limit_floor_bytes = kNoFloor;
  uint64_t min_bytes = 0;              // of guest memory; the VM is never taken below it
  bool bring_back = false;             // swapped pages may return while memory is plenty
  uint32_t share_rate = ~uint32_t{0};  // pages/s that may be looked at for sharing, at most
  bool ballooned = false;              // the guest's balloon holds pages
};

// Orders as the worker reads them: each number by itself; a mixture of two orders does no harm.
class StandingOrders {
 public:
  explicit StandingOrders(const Orders& orders) { set(orders); }
  void set(const Orders& orders) {  // any thread
    target_bytes_.store(orders.target_bytes, std::memory_order_relaxed);
    soft_floor_bytes_.store(orders.soft_floor_bytes, std::memory_order_relaxed);
    limit_floor_bytes_.store(orders.limit_floor_bytes, std::memory_order_relaxed);
    min_bytes_.store(orders.min_bytes, std::memory_order_relaxed);
    bring_back_.store(orders.bring_back, std::memory_order_relaxed);
    share_rate_.store(orders.share_rate, std::memory_order_relaxed);
    ballooned_.store(orders.ballooned, std::memory_order_relaxed);
  }
  uint64_t target_bytes() const { return target_bytes_.load(std::memory_order_relaxed); }
  uint64_t soft_floor_bytes() const { return soft_floor_bytes_.load(std::memory_order_relaxed); }
  uint64_t limit_floor_bytes() const { return limit_floor_bytes_.load(std::memory_order_relaxed); }
  uint64_t min_bytes() const { return min_bytes_.load(std::memory_order_relaxed); }
  bool bring_back() const { return bring_back_.load(std::memory_order_relaxed); }
  uint32_t share_rate() const { return share_rate_.load(std::memory_order_relaxed); }
  bool ballooned() const { return ballooned_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> target_bytes_;
  std::atomic<uint64_t> soft_floor_bytes_;
  std::atomic<uint64_t> limit_floor_bytes_;
  std::atomic<uint64_t> min_bytes_;
  std::atomic<bool> bring_back_;
  std::atomic<uint32_t> share_rate_;
  std::atomic<bool> ballooned_;
};

// Page-aligned memory for I/O and staging, allocated once.
class PageBuffer {
 public:
  explicit PageBuffer(uint32_t pages);
  std::span<std::byte> run(uint32_t page, uint32_t count) {
    return {bytes_.get() + size_t{page} * kPageBytes, size_t{count} * kPageBytes};
  }
  std::span<std::byte, kPageBytes> page(uint32_t page) {
    return std::span<std::byte, kPageBytes>(bytes_.get() + size_t{page} * kPageBytes, kPageBytes);
  }

 private:
  struct Free {
    void operator()(std::byte* bytes) const;
  };
  std::unique_ptr<std::byte, Free> bytes_;
};

// Pages that one step of the engine moves at once. System calls cost per call and per running vCPU
// (a TLB flush each), so runs of 32 spread them to ~0.1 of a page's compression; longer ones only
// make a fault wait longer behind reclaim of its own VM.
inline constexpr uint32_t kRunPages = 32;

struct Vm {
  Vm(const VmSpec& vm_spec, const PagerParts& parts, Tables vm_tables);

  PageEntry get(PageIndex page) const { return tables.get(page); }
  PageState state(PageIndex page) const { return tables.get(page).state(); }
  // Stores the entry; checks that the state may follow.
  void set(PageIndex page, PageEntry entry);
  uint64_t count(PageState state) const { return counts[static_cast<size_t>(state)]; }

  // What the VM consumes of the host now, as charged to the ledger.
  uint64_t consumed() const {
    return charged_frames * kPageBytes + zip.used_bytes() + overhead_bytes;
  }

  // What it may always keep: its min is memory of the guest, the overhead comes on top.
  uint64_t floor_bytes() const { return orders.min_bytes() + overhead_bytes; }

  // Memory is low and the VM is above its target, or it is clearly above its limit: it gets no
  // frame until it has made room itself or, in low, memory is back; or until its own reclaim has
  // found nothing to take for a while (then it may use what there is).
  bool blocked() const {
    if (let_pass) return false;
    const uint64_t consumed = this->consumed();
    const uint64_t limit = orders.limit_floor_bytes();
    return (limit < kNoFloor - kLimitSlackBytes && consumed > limit + kLimitSlackBytes) ||
           (ledger.state() == HostState::kLow && consumed > orders.target_bytes());
  }
  // Charges up to `wanted` frames, at least 1 or none. Returns how many.
  uint32_t charge_frames(uint32_t wanted);
  void uncharge_frames(uint64_t frames);

  // Frees what the entry keeps outside the RAM file (arena slot, swap slot). Call after the entry
  // was replaced.
  void release_copy(PageEntry old);
  // Gives a swap slot back, now or, while a read of it is in flight, when that is done.
  void release_slot(SwapSlot slot);
  // Up to `wanted` consecutive swap slots, taking back kept copies of resident pages when the file
  // is full.
  SlotRun allocate_slots(uint32_t wanted);

  // The guest gave the page up and the bit is set: forget stored copies. True if it was so.
  // A bit is cleared before a page with a frame is judged (a later mark must not be lost), and
  // after a page without one was given up (a daemon that dies between must not forget it).
  bool take_discard(PageIndex page);
  bool discard_bit(PageIndex page) const;
  void clear_discard_bit(PageIndex page);
  // Makes the page Ballooned; a frame that it had is gone already.
  void give_up(PageIndex page);
  // Takes the bits of 64 pages from word × 64 on. Pages with a frame are judged by the RAM file;
  // pages that are away are brought home first and keep their bits until then.
  void take_discarded_word(uint32_t word);

  // Makes pages with frames Sealed and copies them into `scratch`. False: the VM is gone.
  bool seal_and_read(PageRun run);

  const VmSpec spec;
  machine::GuestMemory& memory;
  machine::SwapDevice& swap;
  machine::VmStore& store;
  machine::VmControl& control;
  const machine::Clock& clock;
  Ledger& ledger;
  const Options options;
  const uint64_t seed;
  ShareGroup* const share;  // its salt group; null: it shares nothing

  Tables tables;
  ZipCache zip;
  SlotMap slots;
  Codec codec;
  PageBuffer scratch{kRunPages};  // one step's pages; free between steps

  std::array<uint64_t, kPageStates> counts{};  // pages per state
  uint64_t charged_frames = 0;  // = pages with frames, between two calls into the engine
  uint64_t overhead_bytes = 0;  // charged
  uint64_t charged_checksum_pages =
      0;  // of overhead_bytes: the checksum table as far as it is used
  StandingOrders orders;
  bool let_pass = false;  // see blocked()
  bool gone = false;      // the VM died; nothing is served any more
  // Slots that the disk is reading now, one entry per I/O buffer; a slot whose page was given up
  // meanwhile is an orphan that the completion releases, so that no write can be started over a
  // read.
  struct Reading {
    SlotRun run;
    uint64_t orphans = 0;  // bit i: slot run.first + i
  };
  std::array<Reading, 8> reading{};
  VmCounters counters;
  ActiveSampler* sampler = nullptr;  // hears of faults, zaps and evictions; set by its constructor
  Away* away = nullptr;              // where its shared pages are; set by the pager
  bool discards_left = false;        // bits that could not be taken yet

 private:
  void strip_kept_copies();
  uint32_t strip_hand_ = 0;
};

}  // namespace ballast::engine
