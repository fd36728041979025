// ZipCache: one VM's compression cache: a slab allocator over the arena that outlives the daemon.
//
// The arena is cut into slabs of 16 KiB; a slab holds slots of one size. The 19 sizes waste ~5 %
// where ESX's 2 KB slots waste what a page compresses better than half. A slab's frames are charged
// to the ledger when its first slot is taken and given back with its last. Each slot starts with a
// small header that links all slots oldest first: a page that is touched leaves the cache, so
// oldest = longest not accessed. Links live in the arena, not in tables, and are rebuilt by claim()
// after a daemon's death.
//
// A slot is named by its byte offset in the arena. Worker only.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/compress/codec.h"
#include "engine/ledger/ledger.h"
#include "machine/vm_store.h"

namespace ballast::engine {

class ZipCache {
 public:
  enum class PutStop { kFull, kNoMemory };
  struct PutResult {
    std::optional<uint64_t> offset;
    PutStop stop = PutStop::kFull;  // why not, when there is no offset
  };

  ZipCache(machine::VmStore& store, Ledger& ledger, uint64_t max_bytes);
  ~ZipCache();

  // Copies `compressed` in as the youngest. Fails at the cap, or when the ledger has no slab left
  // to give.
  PutResult put(PageIndex page, std::span<const std::byte> compressed);
  std::span<const std::byte> get(uint64_t offset, uint32_t length) const;
  void free(uint64_t offset);

  // Takes over a slot that a dead daemon filled. False if the offset cannot be one (hostile or
  // damaged tables).
  [[nodiscard]] bool claim(PageIndex page, uint64_t offset, uint32_t length);
  // Once after all claims: orders by place, charges what is there, gives back slabs that nobody
  // claimed.
  void link_claimed();

  bool empty() const { return oldest_ == kNone; }
  uint64_t oldest() const { return uint64_t{oldest_} * kGranule; }
  uint64_t younger(uint64_t offset) const;  // the next in age; 0xffff… at the end
  PageIndex page_at(uint64_t offset) const;
  static constexpr uint64_t kEnd = ~uint64_t{0};

  uint64_t max_bytes() const { return max_bytes_; }
  uint64_t used_bytes() const { return slabs_used_ * kSlabBytes; }  // charged
  // Whether the next put is likely to find room: a slab may still be added.
  bool has_room() const { return used_bytes() + kSlabBytes <= max_bytes_; }
  uint64_t slots_used() const { return slots_used_; }
  // Recounts from the slabs; for audits.
  uint64_t count_slots() const;

  static constexpr uint32_t kSlabBytes = 16 * 1024;

 private:
  static constexpr uint32_t kGranule = 16;
  static constexpr uint32_t kNone = ~uint32_t{0};
  // In front of every slot's bytes. Offsets in granules.
  struct SlotHeader {
    uint32_t page;
    uint32_t older;
    uint32_t younger;
  };
  struct Slab {
    uint64_t taken[2] = {0, 0};
    uint32_t next_partial = kNone;
    uint32_t previous_partial = kNone;
    uint16_t used = 0;
    uint8_t size_class = 0;
    bool partial = false;  // in its class's list: has free slots and a charge
  };

  static constexpr std::array<uint16_t, 19> kSlotsPerSlab = {7,  8,  9,  10, 11, 12, 13, 14, 16, 18,
                                                             20, 24, 28, 32, 40, 48, 64, 96, 128};
  static constexpr uint32_t slot_bytes(size_t size_class) {
    return kSlabBytes / kSlotsPerSlab[size_class] / kGranule * kGranule;
  }
  static uint8_t class_for(uint32_t length);

  SlotHeader& header(uint32_t granule) const {
    return *reinterpret_cast<SlotHeader*>(arena_.data() + uint64_t{granule} * kGranule);
  }
  std::optional<uint32_t> slab_with_room(uint8_t size_class, PutStop& stop);
  // Makes descriptors, of free slabs, up to and including this one.
  void add_slabs_up_to(uint32_t slab);
  void push_partial(uint32_t slab);
  void drop_partial(uint32_t slab);
  void link_youngest(uint32_t granule);
  void unlink(uint32_t granule);

  machine::VmStore& store_;
  Ledger& ledger_;
  std::span<std::byte> arena_;
  const uint64_t max_bytes_;
  uint64_t slabs_used_ = 0;
  uint64_t slots_used_ = 0;
  uint32_t oldest_ = kNone;
  uint32_t youngest_ = kNone;
  uint32_t slab_limit_ = 0;           // slabs in the arena
  std::vector<Slab> slabs_;           // as far as slabs were ever used: 36 bytes each with the next
  std::vector<uint32_t> free_slabs_;  // stack
  std::array<uint32_t, kSlotsPerSlab.size()> partial_;
};

}  // namespace ballast::engine
