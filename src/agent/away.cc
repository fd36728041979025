// Pages that are away: mapped to a frame of the share pool, privately, over their place in the RAM
// file. What the guest writes there stays in copies of its own, which exist nowhere else: nothing
// here may unmap or zap such a page before its bytes are in the RAM file, or were given up.
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "agent/agent.h"

namespace ballast::agent {

namespace {

uint64_t* away = nullptr;  // one bit per page of the VM; made by the first share
constexpr uint64_t kPagesMax = kAgentRemapBytesMax / kPageBytes;

bool make_away_bits() {
  if (away != nullptr) return true;
  const uint64_t words = (settings().memory_bytes / kPageBytes + 63) / 64;
  void* mapped = raw_mmap(0, words * sizeof(uint64_t), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return false;
  away = static_cast<uint64_t*>(mapped);
  return true;
}

void set_away(uint64_t first, uint64_t end, bool value) {
  for (uint64_t page = first; page < end; ++page) {
    const uint64_t bit = uint64_t{1} << (page % 64);
    away[page / 64] = value ? away[page / 64] | bit : away[page / 64] & ~bit;
  }
}

// The first page in [page, end) that is away, or is not; `end` if there is none.
uint64_t find_page(uint64_t page, uint64_t end, bool is_away) {
  if (away == nullptr) return is_away ? end : page;
  while (page < end) {
    const uint64_t word = is_away ? away[page / 64] : ~away[page / 64];
    const uint64_t rest = word >> (page % 64);
    if (rest != 0) {
      const uint64_t found = page + static_cast<uint64_t>(__builtin_ctzll(rest));
      return found < end ? found : end;
    }
    page = (page / 64 + 1) * 64;
  }
  return end;
}

Stretch next_away_stretch(uint64_t first, uint64_t end) {
  const uint64_t start = find_page(first, end, true);
  return {start, find_page(start, end, false)};
}

// Where a stretch of a region's pages is.
struct Place {
  uint64_t address;
  uint64_t bytes;
  uint64_t offset;  // in the RAM file
};

Place place_of(const Region& region, Stretch pages) {
  const uint64_t inside = (pages.first - region.first_page) * kPageBytes;
  return {region.address + inside, (pages.end - pages.first) * kPageBytes, region.offset + inside};
}

bool write_protect(uint64_t address, uint64_t bytes) {
  uffdio_writeprotect request{};
  request.range = {address, bytes};
  request.mode = UFFDIO_WRITEPROTECT_MODE_WP;
  return ioctl(userfault_fd, UFFDIO_WRITEPROTECT, &request) == 0;
}

// Steps that have no way back. The kernel refuses them only when it is out of its own memory: a VM
// that went on without them would lose bytes or outgrow its budget unseen.
void must(bool (*step)(uint64_t address, uint64_t bytes), uint64_t address, uint64_t bytes,
          const char* what) {
  constexpr int kTries = 1000;
  constexpr timespec kPause{0, 1'000'000};
  for (int i = 0; i < kTries; ++i) {
    if (step(address, bytes)) return;
    nanosleep(&kPause, nullptr);
  }
  die("guest memory at %#llx cannot be %s after its mapping was changed: %s",
      static_cast<unsigned long long>(address), what, strerror(errno));
}

// Maps a part of a file over guest pages; 0 or errno.
int map_over(uint64_t address, uint64_t bytes, int protection, int flags, int fd, uint64_t offset) {
  if (raw_mmap(address, bytes, protection, flags | MAP_FIXED, fd, offset) != MAP_FAILED) return 0;
  const int error = errno;
  // At vm.max_map_count the kernel refuses before it touches anything. If it ever unmapped first,
  // the guest's next access would be a crash without a reason.
  constexpr uint64_t kPartMax = kAgentRemapBytesMax;
  unsigned char resident[kPagesMax];
  for (uint64_t done = 0; done < bytes; done += kPartMax) {
    const uint64_t part = bytes - done < kPartMax ? bytes - done : kPartMax;
    if (syscall(SYS_mincore, address + done, part, resident) != 0 && errno == ENOMEM) {
      die("guest memory at %#llx is unmapped after mapping it anew failed: %s",
          static_cast<unsigned long long>(address), strerror(error));
    }
  }
  return error;
}

// Whether the RAM file has a frame for every page: a hole would come up as the pool's bytes.
bool all_present(uint64_t address, uint64_t bytes) {
  unsigned char resident[kPagesMax];
  if (syscall(SYS_mincore, address, bytes, resident) != 0) return false;
  for (uint64_t i = 0; i < bytes / kPageBytes; ++i) {
    if ((resident[i] & 1) == 0) return false;
  }
  return true;
}

// Maps the RAM file where pages were away; 0 or an errno with which nothing was changed.
int map_home(const Region& region, Stretch pages) {
  const Place at = place_of(region, pages);
  const int error = map_over(at.address, at.bytes, region.protection,
                             MAP_SHARED | region.reserve_flag, region.ram_fd, at.offset);
  if (error != 0) return error;
  set_away(pages.first, pages.end, false);
  for (const int advice : region.advice) {
    if (advice != kNoAdvice) raw_madvise(at.address, at.bytes, advice);
  }
  must(register_range, at.address, at.bytes, "registered with userfaultfd");
  return 0;
}

void free_frames(const Region& region, const Place& at) {
  while (syscall(SYS_fallocate, region.ram_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                 at.offset, at.bytes) != 0 &&
         errno == EINTR) {
  }
}

// Copies what is mapped there, private copies or the pool's frames, into the RAM file.
int copy_out(const Region& region, const Place& at) {
  for (uint64_t done = 0; done < at.bytes;) {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): guest pages are known by address.
    const void* from = reinterpret_cast<const void*>(at.address + done);
    const ssize_t wrote =
        pwrite(region.ram_fd, from, at.bytes - done, static_cast<off_t>(at.offset + done));
    if (wrote > 0) {
      done += static_cast<uint64_t>(wrote);
    } else if (wrote == 0 || errno != EINTR) {
      return wrote == 0 ? ENOSPC : errno;
    }
  }
  return 0;
}

int bring_stretch_home(const Region& region, Stretch pages) {
  const Place at = place_of(region, pages);
  // From here on no write slips in between the copy and the mapping of the copy.
  if (!write_protect(at.address, at.bytes)) return errno;
  int error = copy_out(region, at);
  if (error == 0) error = map_home(region, pages);
  // A frame in the RAM file would pass for the page.
  if (error != 0) free_frames(region, at);
  return error;
}

}  // namespace

int share_range(const Region& region, const AgentShareRange& range, int pool) {
  if (!make_away_bits()) return ENOMEM;
  const uint64_t first = region.first_page + (range.address - region.address) / kPageBytes;
  const uint64_t end = first + range.bytes / kPageBytes;
  if (find_page(first, end, true) != end) return EBUSY;  // its private copies would be lost
  if (any_discarded(first, end) || !all_present(range.address, range.bytes)) return ECANCELED;
  const int error = map_over(range.address, range.bytes, region.protection,
                             MAP_PRIVATE | MAP_NORESERVE, pool, range.pool_offset);
  if (error != 0) return error;
  // What the guest writes from now on is a copy of its own: kept whatever comes next.
  set_away(first, end, true);
  raw_madvise(range.address, range.bytes, MADV_DONTFORK);
  for (const int advice : region.advice) {
    if (advice == MADV_DONTDUMP) raw_madvise(range.address, range.bytes, advice);
  }
  // Only a page with an entry traps before it is copied. Where this fails a copy is made unasked,
  // which the daemon finds in pagemap.
  raw_madvise(range.address, range.bytes, MADV_POPULATE_READ);
  must(register_range, range.address, range.bytes, "registered with userfaultfd");
  must(write_protect, range.address, range.bytes, "write-protected");
  return 0;
}

int bring_home(const Region& region, uint64_t first_page, uint64_t end_page) {
  for (Stretch pages = next_away_stretch(first_page, end_page); pages.first < pages.end;
       pages = next_away_stretch(pages.end, end_page)) {
    if (const int error = bring_stretch_home(region, pages)) return error;
  }
  return 0;
}

int drop_away(const Region& region, uint64_t first_page, uint64_t end_page) {
  for (Stretch pages = next_away_stretch(first_page, end_page); pages.first < pages.end;
       pages = next_away_stretch(pages.end, end_page)) {
    if (const int error = map_home(region, pages)) return error;
    // Marked only now: with the mark the daemon may give the pool's frame to others.
    mark_discarded(pages.first, pages.end);
    free_frames(region, place_of(region, pages));
    mark_discarded(pages.first, pages.end);
  }
  return 0;
}

void forget_away(uint64_t first_page, uint64_t end_page) {
  if (away != nullptr) set_away(first_page, end_page, false);
}

Stretch next_home_stretch(uint64_t first_page, uint64_t end_page) {
  const uint64_t start = find_page(first_page, end_page, false);
  return {start, find_page(start, end_page, true)};
}

void* raw_mmap(uint64_t address, uint64_t bytes, int protection, int flags, int fd,
               uint64_t offset) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): that is how the system call returns it.
  return reinterpret_cast<void*>(
      syscall(SYS_mmap, address, bytes, protection, flags, fd, static_cast<off_t>(offset)));
}

int raw_madvise(uint64_t address, uint64_t bytes, int advice) {
  return static_cast<int>(syscall(SYS_madvise, address, bytes, advice));
}

}  // namespace ballast::agent
