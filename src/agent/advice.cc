// QEMU's madvise() on guest RAM: what it says about its mappings is kept, so that a page that comes
// home can be mapped as its neighbours are; what frees or zaps pages must not reach those away.
#include <errno.h>
#include <sys/mman.h>

#include "agent/agent.h"

namespace ballast::agent {

namespace {

// Advice of one kind replaces each other; −1: changes no mapping for good. Not MADV_MERGEABLE: it
// has no effect on shared mappings.
int kind_of(int advice) {
  switch (advice) {
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
      return 0;
    case MADV_DONTFORK:
    case MADV_DOFORK:
      return 1;
    case MADV_DONTDUMP:
    case MADV_DODUMP:
      return 2;
    case MADV_NORMAL:
    case MADV_RANDOM:
    case MADV_SEQUENTIAL:
      return 3;
    default:
      return -1;
  }
}

int advise_and_note(uint64_t address, uint64_t bytes, int advice) {
  const int result = raw_madvise(address, bytes, advice);
  if (result != 0) return result;
  for (unsigned i = 0; i < region_count.load(std::memory_order_acquire); ++i) {
    Region& region = regions[i];
    // Advice for a part only: pages of that part stay mappings of their own once they were away.
    if (address <= region.address && region.address + region.size <= address + bytes) {
      region.advice[kind_of(advice)] = advice;
    }
  }
  return result;
}

// Where the part of [address, end) that begins at `address` and is all one region, or none, ends.
uint64_t end_of_part(const Region* region, uint64_t address, uint64_t end) {
  uint64_t part_end = end;
  if (region != nullptr && region->address + region->size < end) {
    part_end = region->address + region->size;
  }
  const unsigned count = region_count.load(std::memory_order_acquire);
  for (unsigned i = 0; i < count && region == nullptr; ++i) {
    if (regions[i].address > address && regions[i].address < part_end) {
      part_end = regions[i].address;
    }
  }
  return part_end;
}

// Everything but pages that are away: these would lose the guest's own copies.
int zap_home_pages(uint64_t address, uint64_t bytes, int advice) {
  const uint64_t end = address + bytes;
  for (uint64_t at = address, part_end = 0; at < end; at = part_end) {
    const Region* region = find_region(at, kPageBytes);
    part_end = end_of_part(region, at, end);
    if (region == nullptr) {
      if (raw_madvise(at, part_end - at, advice) != 0) return -1;
      continue;
    }
    const uint64_t first = region->first_page + (at - region->address) / kPageBytes;
    const uint64_t last = first + (part_end - at) / kPageBytes;
    for (Stretch pages = next_home_stretch(first, last); pages.first < pages.end;
         pages = next_home_stretch(pages.end, last)) {
      const uint64_t start = region->address + (pages.first - region->first_page) * kPageBytes;
      if (raw_madvise(start, (pages.end - pages.first) * kPageBytes, advice) != 0) return -1;
    }
  }
  return 0;
}

// MADV_REMOVE punches the file behind the mapping.
int remove(uint64_t address, uint64_t bytes) {
  const Region* region = find_region(address, bytes);
  if (region == nullptr) {  // QEMU discards within one block
    errno = EINVAL;
    return -1;
  }
  const uint64_t start = region->offset + (address - region->address);
  const FileRange range{region->device, region->inode, start, start + bytes};
  if (!begin_discard(range)) return -1;
  const int result = raw_madvise(address, bytes, MADV_REMOVE);
  const int error = errno;
  end_discard(range);
  errno = error;
  return result;
}

}  // namespace

int advise_ram(void* address, size_t length, int advice) {
  const uint64_t start = reinterpret_cast<uint64_t>(address);
  const uint64_t bytes = (length + kPageBytes - 1) / kPageBytes * kPageBytes;
  if (start % kPageBytes != 0) return raw_madvise(start, bytes, advice);  // which refuses it
  if (advice == MADV_REMOVE) return remove(start, bytes);
  const bool zaps = advice == MADV_DONTNEED || advice == MADV_DONTNEED_LOCKED;
  // The rest changes nothing for good, and some of it touches pages, which waits for the daemon.
  if (!zaps && kind_of(advice) < 0) return raw_madvise(start, bytes, advice);
  lock_mappings();
  const int result =
      zaps ? zap_home_pages(start, bytes, advice) : advise_and_note(start, bytes, advice);
  const int error = errno;
  unlock_mappings();
  errno = error;
  return result;
}

}  // namespace ballast::agent
