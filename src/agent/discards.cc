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

bool mark_discards(int fd, off_t offset, off_t length) {
  const unsigned count = region_count.load(std::memory_order_acquire);
  if (count == 0 || offset < 0 || length <= 0 || inert.load(std::memory_order_relaxed))
    return false;
  struct stat status;
  if (fstat(fd, &status) != 0) return false;
  const uint64_t start = static_cast<uint64_t>(offset);
  const uint64_t end = start + static_cast<uint64_t>(length);
  bool any = false;
  for (unsigned i = 0; i < count; ++i) {
    const Region& region = regions[i];
    if (region.device != status.st_dev || region.inode != status.st_ino) continue;
    const uint64_t low = start > region.offset ? start : region.offset;
    const uint64_t high = end < region.offset + region.size ? end : region.offset + region.size;
    if (low >= high) continue;
    // Only whole pages: the rest of a partly punched page still holds the guest's bytes.
    const uint64_t first = (low - region.offset + kPageBytes - 1) / kPageBytes;
    const uint64_t last = (high - region.offset) / kPageBytes;
    if (first >= last) continue;
    set_bits(region.first_page + first, region.first_page + last);
    any = true;
  }
  return any;
}

void notify_discards() {
  if (pending().exchange(1, std::memory_order_acq_rel) != 0) return;
  repeat_discards_notification();
}

void repeat_discards_notification() {
  if (header == nullptr || pending().load(std::memory_order_acquire) == 0) return;
  const AgentMessage message{kAgentMagic, kAgentDiscards, 0, 0};
  send_on_link(&message, sizeof(message));
}

}  // namespace ballast::agent
