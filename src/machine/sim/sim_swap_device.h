// SimSwapDevice: a disk with latencies, reordering and every misbehaviour that real ones have, from
// the seed.
//
// Pristine slots and injected damage are kept apart in the counters: damage() says whether a bad or
// missing page may be blamed on the disk. Checks the caller's half of the contract: alignment, no
// overlapping operations, write buffers unchanged and read buffers untouched until completion. One
// thread.
//
// What may go wrong                      what the engine must make of it
//   write says kFailed or kNoSpace         the slots hold anything; the page stays where it was
//   write says kOk but was torn, lost or   a later read returns other bytes: checksum, page Lost,
//   VM frozen flipped a bit read says kFailed, now or always       tried again or page Lost, VM
//   frozen
#pragma once

#include <memory>
#include <vector>

#include "machine/sim/sim_world.h"
#include "machine/swap_device.h"

namespace ballast::machine::sim {

// Rates in permille of the operations.
struct SimSwapOptions {
  uint32_t slot_count = 256;
  Nanoseconds latency_min = 20 * kMicrosecond;
  Nanoseconds latency_max = 200 * kMicrosecond;
  uint32_t slow = 0;  // operations that take up to slow_max
  Nanoseconds slow_max = 20 * kMillisecond;
  uint32_t failed_writes = 0;
  uint32_t failed_reads = 0;
  uint32_t bad_slots = 0;     // writes after which one slot never reads again
  uint32_t no_space = 0;      // writes refused
  uint32_t flipped_bits = 0;  // writes that store one wrong bit
  uint32_t torn_writes = 0;   // writes of which only the first sectors arrive
  uint32_t lost_writes = 0;
};

class SimSwapDevice final : public SwapDevice {
 public:
  SimSwapDevice(SimWorld& world, uint32_t vm, SimSwapOptions options);

  uint32_t slot_count() const override { return options_.slot_count; }
  void write(SwapSlot first, std::span<const std::byte> bytes, IoToken token) override;
  void read(SwapSlot first, std::span<std::byte> bytes, IoToken token) override;
  void submit() override;
  size_t poll(std::span<IoDone> done) override;

  void grow(uint32_t slots);
  // The daemon died: its writes land whole, torn or not at all; its reads are forgotten.
  void adopt();
  bool idle() const { return ops_.empty(); }
  // When the next completion is due; ~0 when none is in flight.
  Nanoseconds next_ready() const;
  // Disk faults injected into reads, or into writes that were confirmed.
  uint64_t damage() const { return damage_; }
  // A disk that was repaired: reads of bad slots work again (wrong bytes stay wrong).
  void repair();

 private:
  struct Op {
    bool is_write = false;
    bool submitted = false;
    SwapSlot first;
    std::span<std::byte> buffer;        // read: where to; write: only compared
    std::unique_ptr<std::byte[]> copy;  // write: the bytes at the call
    IoToken token = 0;
    Nanoseconds ready = 0;
  };
  struct Slot {
    std::unique_ptr<std::byte[]> bytes;   // null: zeros
    std::unique_ptr<std::byte[]> before;  // kept for the stale_slots bug only
    bool busy = false;
    bool bad = false;
  };

  void queue(Op op);
  IoStatus complete(Op& op);
  IoStatus complete_write(Op& op);
  IoStatus complete_read(Op& op);
  void store(const Op& op, size_t bytes);

  SimWorld& world_;
  const uint32_t vm_;
  SimSwapOptions options_;
  std::vector<Slot> slots_;
  std::vector<Op> ops_;
  uint64_t damage_ = 0;
};

}  // namespace ballast::machine::sim
