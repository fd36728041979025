// Tables: the pmap of one VM and the checksums of its swap slots, laid out in the store that
// outlives the daemon.
//
//   page 0           header: magic, version, page and slot counts, the key of the checksums
//   then             pmap, one PageEntry per page
//   then (page-aligned) one 64-bit checksum per swap slot, valid for slots that an entry names
//
// The pmap is the only truth about a VM: everything else the daemon knows is rebuilt from it. Only
// the VM's worker reads or writes. Opened tables come from a dead daemon, so nothing in them is
// trusted before open() has checked the header and engine/recover has checked every entry.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/units.h"
#include "engine/pmap/page_entry.h"

namespace ballast::engine {

class Tables {
 public:
  static size_t bytes_for(uint32_t pages, uint32_t slots);
  static constexpr uint32_t kChecksumsPerPage = kPageBytes / sizeof(uint64_t);

  static constexpr size_t kGroupBytesMax = 191;

  // Formats fresh (all-zero) memory; `key` seeds the checksums; `group` is the VM's salt group.
  static Tables format(std::span<std::byte> memory, uint32_t pages, uint32_t slots, uint64_t key,
                       std::string_view group = {});
  // The salt group in tables that an earlier daemon left; empty: none, or no tables.
  static std::string group(std::span<const std::byte> memory);
  // Accepts tables that an earlier daemon left, or says what does not fit.
  static Result<Tables> open(std::span<std::byte> memory, uint32_t pages, uint32_t slots);

  uint32_t page_count() const { return pages_; }
  uint32_t slot_count() const { return slots_; }
  uint64_t key() const { return key_; }

  PageEntry get(PageIndex page) const {
    return PageEntry(__atomic_load_n(&pmap_[page.raw()], __ATOMIC_RELAXED));
  }
  // Release: what the entry points to (arena bytes, checksum) is stored before it, also for the
  // next daemon.
  void put(PageIndex page, PageEntry entry) {
    __atomic_store_n(&pmap_[page.raw()], entry.word(), __ATOMIC_RELEASE);
  }
  // Pages of the checksum table that were ever stored to. They keep their frames, so the next
  // daemon must charge them even if no slot in them is named any more. Raised before the first
  // store.
  uint32_t checksum_pages() const { return __atomic_load_n(checksum_pages_, __ATOMIC_RELAXED); }
  void set_checksum_pages(uint32_t pages) {
    __atomic_store_n(checksum_pages_, pages, __ATOMIC_RELEASE);
  }
  uint64_t checksum(SwapSlot slot) const { return checksums_[slot.raw()]; }
  void set_checksum(SwapSlot slot, uint64_t checksum) { checksums_[slot.raw()] = checksum; }

 private:
  Tables(std::span<std::byte> memory, uint32_t pages, uint32_t slots, uint64_t key);

  uint32_t pages_;
  uint32_t slots_;
  uint64_t key_;
  uint32_t* checksum_pages_;
  uint64_t* pmap_;
  uint64_t* checksums_;
};

}  // namespace ballast::engine
