#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "agent/agent.h"

namespace ballast::agent {

constinit Region regions[kAgentRegionsMax];
constinit std::atomic<unsigned> region_count{0};
constinit std::atomic<bool> inert{false};
constinit int userfault_fd = -1;

namespace {

// Serialises adopt_region: QEMU could map two backends from two threads.
pthread_mutex_t adopting = PTHREAD_MUTEX_INITIALIZER;

constexpr uint64_t kFeatures = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_MISSING_SHMEM |
                               UFFD_FEATURE_THREAD_ID | UFFD_FEATURE_WP_HUGETLBFS_SHMEM;

unsigned long long wide(uint64_t value) { return value; }

// Shared memory files of QEMU (and our own) that are not guest RAM; the kernel shows a memfd's name
// in its link.
bool is_other_memfd(int fd) {
  char link[64];
  char target[256];
  snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(link, target, sizeof(target) - 1);
  if (length < 0) return false;
  target[length] = '\0';
  for (const char* name : {"/memfd:tcg-jit", "/memfd:vhost-log", "/memfd:ballast-"}) {
    if (strncmp(target, name, strlen(name)) == 0) return true;
  }
  return false;
}

int make_userfaultfd() {
  const int flags = O_CLOEXEC | O_NONBLOCK;
  int fd = static_cast<int>(syscall(SYS_userfaultfd, flags));
  if (fd < 0 && errno == EPERM) {
    const int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    if (device < 0) {
      die("this process may not create a userfaultfd: start QEMU as root, or give its user access "
          "to /dev/userfaultfd, or set the sysctl vm.unprivileged_userfaultfd=1");
    }
    fd = ioctl(device, USERFAULTFD_IOC_NEW, flags);
    close(device);
  }
  if (fd < 0) die("userfaultfd cannot be created: %s", strerror(errno));
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = kFeatures;
  if (ioctl(fd, UFFDIO_API, &api) != 0) {
    die("this kernel's userfaultfd cannot write-protect shared memory (%s); Linux 5.19 or newer is "
        "needed",
        strerror(errno));
  }
  return fd;
}

bool overlap(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes) {
  return a < b + b_bytes && b < a + a_bytes;
}

// The region of which QEMU mapped a piece anew in place (it does so after a memory error), or null.
const Region* remapped_region(const Region& wanted, unsigned count) {
  for (unsigned i = 0; i < count; ++i) {
    const Region& known = regions[i];
    if (known.device == wanted.device && known.inode == wanted.inode &&
        wanted.address >= known.address &&
        wanted.address + wanted.size <= known.address + known.size &&
        wanted.offset - known.offset == wanted.address - known.address) {
      return &known;
    }
  }
  return nullptr;
}

// The registration is lost, and what the guest had written to pages that were away.
bool readopt_piece(const Region& known, const Region& piece) {
  const uint64_t first = known.first_page + (piece.address - known.address) / kPageBytes;
  lock_mappings();
  drop_away(known, first, first + piece.size / kPageBytes);
  const bool registered = register_range(piece.address, piece.size);
  unlock_mappings();
  notify_discards();
  return registered;
}

// Why this region cannot be taken, written to `text`; empty if it can.
void find_objection(const Region& wanted, unsigned count, char* text, size_t text_bytes) {
  text[0] = '\0';
  uint64_t total = wanted.size;
  for (unsigned i = 0; i < count; ++i) {
    total += regions[i].size;
    if (regions[i].device == wanted.device && regions[i].inode == wanted.inode &&
        overlap(regions[i].offset, regions[i].size, wanted.offset, wanted.size)) {
      snprintf(text, text_bytes,
               "the same part of one memory file is mapped twice as guest RAM; give each memory "
               "backend a file of its own");
      return;
    }
  }
  if (total > settings().memory_bytes) {
    snprintf(
        text, text_bytes,
        "QEMU maps %llu bytes of guest RAM, but VM '%s' was announced with %llu bytes; make -m "
        "and the sizes of the memory backends agree with the VM's memory",
        wide(total), settings().name, wide(settings().memory_bytes));
  } else if (count == kAgentRegionsMax) {
    snprintf(text, text_bytes, "more than %d memory backends; use fewer, larger ones",
             static_cast<int>(kAgentRegionsMax));
  }
}

// Fills the slot behind the published regions.
bool fill_slot(Region& slot, const Region& wanted, int fd) {
  slot.ram_fd = -1;
  for (unsigned i = 0; i < region_count.load(std::memory_order_relaxed); ++i) {
    if (regions[i].device == wanted.device && regions[i].inode == wanted.inode) {
      slot.ram_fd = regions[i].ram_fd;
    }
  }
  if (slot.ram_fd < 0) slot.ram_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (slot.ram_fd < 0) return false;
  slot.address = wanted.address;
  slot.size = wanted.size;
  slot.offset = wanted.offset;
  slot.device = wanted.device;
  slot.inode = wanted.inode;
  slot.protection = wanted.protection;
  slot.reserve_flag = wanted.reserve_flag;
  for (int& advice : slot.advice) advice = kNoAdvice;
  slot.first_page = 0;
  for (const Region* before = regions; before != &slot; ++before) {
    slot.first_page += before->size / kPageBytes;
  }
  slot.gone.store(false, std::memory_order_relaxed);
  return true;
}

bool adopt_locked(const Region& wanted, int fd) {
  const unsigned count = region_count.load(std::memory_order_relaxed);
  if (const Region* known = remapped_region(wanted, count)) return readopt_piece(*known, wanted);
  char text[kAgentRefusalBytesMax + 1];
  find_objection(wanted, count, text, sizeof(text));
  if (text[0] != '\0') {
    // Later regions may belong to a running VM (hot-plug): QEMU reports the failed mapping itself
    // and goes on.
    if (count == 0) die("%s", text);
    say("%s", text);
    return false;
  }
  if (userfault_fd < 0) userfault_fd = make_userfaultfd();
  if (discard_bitmap_fd() < 0) die("cannot make the discard bitmap: %s", strerror(errno));
  if (!register_range(wanted.address, wanted.size)) {
    die("guest RAM at %#llx (%llu bytes) cannot be registered with userfaultfd: %s",
        wide(wanted.address), wide(wanted.size), strerror(errno));
  }
  if (!fill_slot(regions[count], wanted, fd)) {
    die("cannot keep a descriptor of the memory file: %s", strerror(errno));
  }
  if (count == 0) {
    open_link();
    return true;
  }
  if (announce_region(text, sizeof(text))) return true;
  say("%s", text);
  return false;
}

}  // namespace

bool is_guest_ram(size_t length, int protection, int flags, int fd) {
  const int type = flags & MAP_TYPE;
  if (length < kSmallestRegionBytes || fd < 0 || (flags & MAP_ANONYMOUS) != 0 ||
      (type != MAP_SHARED && type != MAP_SHARED_VALIDATE) || (protection & PROT_WRITE) == 0 ||
      !settings().active || inert.load(std::memory_order_relaxed)) {
    return false;
  }
  struct statfs file_system;
  if (fstatfs(fd, &file_system) != 0) return false;
  if (file_system.f_type == HUGETLBFS_MAGIC && !is_other_memfd(fd)) {
    die("guest RAM on huge page files (hugetlbfs) cannot be managed page by page; use "
        "memory-backend-memfd,share=on without hugetlb");
  }
  return file_system.f_type == TMPFS_MAGIC && !is_other_memfd(fd);
}

bool adopt_region(void* address, size_t length, int protection, int flags, int fd, off_t offset) {
  struct stat status;
  if (fstat(fd, &status) != 0) die("guest RAM's file cannot be examined: %s", strerror(errno));
  Region wanted;
  wanted.address = reinterpret_cast<uint64_t>(address);
  wanted.size = (length + kPageBytes - 1) / kPageBytes * kPageBytes;
  wanted.offset = static_cast<uint64_t>(offset);
  wanted.device = status.st_dev;
  wanted.inode = status.st_ino;
  wanted.protection = protection;
  wanted.reserve_flag = flags & MAP_NORESERVE;
  pthread_mutex_lock(&adopting);
  const bool adopted = adopt_locked(wanted, fd);
  pthread_mutex_unlock(&adopting);
  return adopted;
}

void forget_region(void* address, size_t length) {
  if (inert.load(std::memory_order_relaxed)) return;
  const uint64_t start = reinterpret_cast<uint64_t>(address);
  const unsigned count = region_count.load(std::memory_order_acquire);
  for (unsigned i = 0; i < count; ++i) {
    Region& region = regions[i];
    if (!overlap(start, length, region.address, region.size)) continue;
    const uint64_t low = start > region.address ? start - region.address : 0;
    const uint64_t end = start + length - region.address;
    const uint64_t high = end < region.size ? end : region.size;
    // A change in progress ends before the addresses are free for something else.
    lock_mappings();
    region.gone.store(true, std::memory_order_relaxed);
    forget_away(region.first_page + low / kPageBytes,
                region.first_page + (high + kPageBytes - 1) / kPageBytes);
    unlock_mappings();
  }
}

const Region* find_region(uint64_t address, uint64_t bytes) {
  const unsigned count = region_count.load(std::memory_order_acquire);
  for (unsigned i = 0; i < count; ++i) {
    const Region& region = regions[i];
    if (address >= region.address && address - region.address < region.size &&
        bytes <= region.size - (address - region.address)) {
      return region.gone.load(std::memory_order_relaxed) ? nullptr : &region;
    }
  }
  return nullptr;
}

bool overlaps_region(uint64_t address, uint64_t bytes) {
  const unsigned count = region_count.load(std::memory_order_acquire);
  if (inert.load(std::memory_order_relaxed)) return false;
  for (unsigned i = 0; i < count; ++i) {
    if (!regions[i].gone.load(std::memory_order_relaxed) &&
        overlap(address, bytes, regions[i].address, regions[i].size)) {
      return true;
    }
  }
  return false;
}

bool register_range(uint64_t address, uint64_t bytes) {
  uffdio_register request{};
  request.range.start = address;
  request.range.len = bytes;
  request.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP;
  return ioctl(userfault_fd, UFFDIO_REGISTER, &request) == 0;
}

}  // namespace ballast::agent
