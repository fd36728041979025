// What a machine offers to the contract suite: one fresh VM of 512 pages, its vCPUs, a share
// pool of 128 frames, swap device and store.
//
// Link exactly one *_under_test.cc. "Soon" is at most a few seconds on a real machine, a few steps
// on the simulated one.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "machine/guest_memory.h"
#include "machine/share_pool.h"
#include "machine/swap_device.h"
#include "machine/vm_store.h"

namespace ballast::machine::contract {

inline constexpr uint32_t kPages = 512;
inline constexpr uint32_t kFrames = 128;
inline constexpr uint32_t kSlots = 128;
inline constexpr size_t kTablesBytes = 4 * kPageBytes;
inline constexpr size_t kArenaBytes = 64 * kPageBytes;

class MemoryUnderTest {
 public:
  virtual ~MemoryUnderTest() = default;
  virtual GuestMemory& memory() = 0;

  // vCPU 0 or 1 starts to read or write the first 8 bytes of a page; one access at a time each.
  virtual void begin_read(int vcpu, PageIndex page) = 0;
  virtual void begin_write(int vcpu, PageIndex page, uint64_t value) = 0;
  // Whether the access ended soon / is still asleep after a while.
  virtual bool ends(int vcpu) = 0;
  virtual bool sleeps(int vcpu) = 0;
  virtual uint64_t value_read(int vcpu) = 0;
  // The next event, if one comes soon.
  virtual std::optional<Fault> next_fault() = 0;
  // What the VM's side does for a balloon: bit, free the frame, bit.
  virtual void guest_discards(PageIndex page) = 0;
  // Lets asynchronous work (sampling, remapping) happen.
  virtual void let_time_pass() = 0;

  // For a VM from make_share_memory: the pool that it was admitted with.
  virtual SharePool* pool() = 0;
  // The vCPU starts to write between two steps of the VM's side, which was asked for a change of
  // this kind: the page is mapped to its frame, but not write-protected yet; or it was copied to
  // the RAM file, but not mapped there yet. False, and nothing started: this machine cannot be made
  // to.
  virtual bool slip_in(Remapped::Kind kind, int vcpu, PageIndex page, uint64_t value) = 0;
  // The VM's side connects anew; whether it did what it was asked for is anybody's guess.
  virtual void lose_requests() = 0;
};

class SwapUnderTest {
 public:
  virtual ~SwapUnderTest() = default;
  virtual SwapDevice& device() = 0;
  virtual void let_time_pass() = 0;
};

class StoreUnderTest {
 public:
  virtual ~StoreUnderTest() = default;
  virtual VmStore& store() = 0;
  // As after a daemon's death: the same memory, opened anew.
  virtual void reopen() = 0;
  // Bytes of frames behind the arena.
  virtual uint64_t arena_frames_bytes() = 0;
};

// Null, with a reason for the SKIP, where this host cannot.
std::unique_ptr<MemoryUnderTest> make_memory(std::string& why_not);
std::unique_ptr<MemoryUnderTest> make_share_memory(std::string& why_not);
std::unique_ptr<SwapUnderTest> make_swap(std::string& why_not);
std::unique_ptr<StoreUnderTest> make_store(std::string& why_not);

}  // namespace ballast::machine::contract
