#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/agent.h"

namespace ballast::agent {

namespace {

// Written once, before the first region is published; read by any thread after that.
int bitmap_fd = -1;
DiscardHeader* header = nullptr;
uint64_t* words = nullptr;
constinit std::atomic<bool> unannounced{false};  // bits were set since the last notify_discards()

std::atomic_ref<uint32_t> pending() { return std::atomic_ref<uint32_t>(header->pending); }

void set_bits(uint64_t first, uint64_t end) {
  while (first < end) {
    const uint64_t word = first / 64;
    const uint64_t low = first % 64;
    const uint64_t count = end - first < 64 - low ? end - first : 64 - low;
    const uint64_t mask = (count == 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1) << low;
    std::atomic_ref<uint64_t>(words[word]).fetch_or(mask, std::memory_order_acq_rel);
    first += count;
  }
  unannounced.store(true, std::memory_order_release);
}

// The bytes of a region, from its start, that the range covers. False: none.
bool part_in_region(const Region& region, const FileRange& range, uint64_t& low, uint64_t& high) {
  if (region.device != range.device || region.inode != range.inode) return false;
  const uint64_t end = region.offset + region.size;
  const uint64_t from = range.start > region.offset ? range.start : region.offset;
  const uint64_t to = range.end < end ? range.end : end;
  if (from >= to) return false;
  low = from - region.offset;
  high = to - region.offset;
  return true;
}

void mark_range(const FileRange& range) {
  const unsigned count = region_count.load(std::memory_order_acquire);
  for (unsigned i = 0; i < count; ++i) {
    const Region& region = regions[i];
    uint64_t low = 0;
    uint64_t high = 0;
    if (!part_in_region(region, range, low, high)) continue;
    // Only whole pages: the rest of a partly punched page still holds the guest's bytes.
    const uint64_t first = (low + kPageBytes - 1) / kPageBytes;
    const uint64_t end = high / kPageBytes;
    if (first < end) set_bits(region.first_page + first, region.first_page + end);
  }
}

// Makes that no page of the range is away: whole ones are dropped, parts of pages need the rest of
// their bytes. 0 or errno.
int empty_away(const Region& region, const FileRange& range) {
  uint64_t low = 0;
  uint64_t high = 0;
  if (region.gone.load(std::memory_order_relaxed) || !part_in_region(region, range, low, high)) {
    return 0;
  }
  const uint64_t first = region.first_page + low / kPageBytes;
  const uint64_t end = region.first_page + (high + kPageBytes - 1) / kPageBytes;
  int error = 0;
  if (low % kPageBytes != 0) error = bring_home(region, first, first + 1);
  if (error == 0 && high % kPageBytes != 0) error = bring_home(region, end - 1, end);
  return error != 0 ? error : drop_away(region, first, end);
}

}  // namespace

int discard_bitmap_fd() {
  if (bitmap_fd >= 0) return bitmap_fd;
  const uint64_t pages = settings().memory_bytes / kPageBytes;
  const uint64_t bytes = kDiscardHeaderBytes + (pages + 63) / 64 * 8;
  const int fd = memfd_create("ballast-discards", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return -1;
  // Sealed, so that the daemon can map it without fearing a SIGBUS.
  if (ftruncate(fd, static_cast<off_t>(bytes)) != 0 ||
      fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return -1;
  }
  void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) return -1;
  header = static_cast<DiscardHeader*>(mapped);
  header->pages = static_cast<uint32_t>(pages);
  words = reinterpret_cast<uint64_t*>(static_cast<char*>(mapped) + kDiscardHeaderBytes);
  bitmap_fd = fd;
  return fd;
}

void mark_discarded(uint64_t first_page, uint64_t end_page) { set_bits(first_page, end_page); }

bool any_discarded(uint64_t first_page, uint64_t end_page) {
  for (uint64_t page = first_page; page < end_page; ++page) {
    const uint64_t word =
        std::atomic_ref<uint64_t>(words[page / 64]).load(std::memory_order_acquire);
    if ((word >> (page % 64) & 1) != 0) return true;
  }
  return false;
}

bool is_ram_range(int fd, off_t offset, off_t length, FileRange& range) {
  const unsigned count = region_count.load(std::memory_order_acquire);
  if (count == 0 || offset < 0 || length <= 0 || inert.load(std::memory_order_relaxed))
    return false;
  struct stat status;
  if (fstat(fd, &status) != 0) return false;
  range = {status.st_dev, status.st_ino, static_cast<uint64_t>(offset),
           static_cast<uint64_t>(offset) + static_cast<uint64_t>(length)};
  for (unsigned i = 0; i < count; ++i) {
    uint64_t low = 0;
    uint64_t high = 0;
    if (part_in_region(regions[i], range, low, high)) return true;
  }
  return false;
}

bool begin_discard(const FileRange& range) {
  lock_mappings();
  const unsigned count = region_count.load(std::memory_order_acquire);
  for (unsigned i = 0; i < count; ++i) {
    if (const int error = empty_away(regions[i], range)) {
      unlock_mappings();
      notify_discards();  // some of it may be done
      errno = error;
      return false;
    }
  }
  // Before it is freed: from here on a stored copy is void, and the daemon must not put it back.
  mark_range(range);
  return true;
}

void end_discard(const FileRange& range) {
  // After it: what was touched in between, and freed, is void too.
  mark_range(range);
  unlock_mappings();
  notify_discards();
}

void notify_discards() {
  if (!unannounced.exchange(false, std::memory_order_acq_rel)) return;
  if (pending().exchange(1, std::memory_order_acq_rel) != 0) return;
  repeat_discards_notification();
}

void repeat_discards_notification() {
  if (header == nullptr || pending().load(std::memory_order_acquire) == 0) return;
  const AgentMessage message{kAgentMagic, kAgentDiscards, 0, 0};
  send_on_link(&message, sizeof(message));
}

}  // namespace ballast::agent
