// What the daemon asks of the agent thread once the VM runs: samples, and changes of mappings.
#include <errno.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "agent/agent.h"

namespace ballast::agent {

namespace {

// A daemon that does not read for so long is as good as dead: the agent connects again.
constexpr int kReplyTimeoutMs = 5000;

// Only the agent thread serves requests; its stack is small.
constinit AgentRange ranges[kAgentSampleRangesMax] = {};
constinit AgentShareRange share_ranges[kAgentRemapRangesMax] = {};
constinit iovec zapped[kAgentSampleRangesMax] = {};

uint64_t first_page_of(const Region& region, uint64_t address) {
  return region.first_page + (address - region.address) / kPageBytes;
}

// The live region that holds a range of whole pages, or null.
const Region* region_for(uint64_t address, uint64_t bytes) {
  if (address % kPageBytes != 0 || bytes % kPageBytes != 0 || bytes == 0) return nullptr;
  return find_region(address, bytes);
}

// Drops the page-table entries; the pages stay in their file. Guest RAM is a shared file, or it
// would not be a region: MADV_DONTNEED cannot lose bytes.
void zap(unsigned count) {
  if (count == 0) return;
  // One call for all where the kernel allows it for the own process (Linux 6.13); else one call
  // each.
  const int self = static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0));
  const bool all =
      self >= 0 && syscall(SYS_process_madvise, self, zapped, count, MADV_DONTNEED, 0) > 0;
  if (self >= 0) close(self);
  for (unsigned i = 0; i < count && !all; ++i) {
    raw_madvise(reinterpret_cast<uint64_t>(zapped[i].iov_base), zapped[i].iov_len, MADV_DONTNEED);
  }
}

bool serve_sample(int socket, const AgentMessage& header) {
  if (header.count > kAgentSampleRangesMax || header.bytes != header.count * sizeof(AgentRange) ||
      !read_exactly(socket, ranges, header.bytes)) {
    return false;
  }
  unsigned used = 0;
  lock_mappings();
  for (unsigned i = 0; i < header.count; ++i) {
    const Region* region = region_for(ranges[i].address, ranges[i].bytes);
    if (region == nullptr) continue;
    const uint64_t first = first_page_of(*region, ranges[i].address);
    const uint64_t end = first + ranges[i].bytes / kPageBytes;
    // A page that is away is a private mapping: a zap would throw the guest's own copy away.
    for (Stretch pages = next_home_stretch(first, end); pages.first < pages.end;
         pages = next_home_stretch(pages.end, end)) {
      const uint64_t at = region->address + (pages.first - region->first_page) * kPageBytes;
      // NOLINTNEXTLINE(performance-no-int-to-ptr): the daemon speaks in addresses.
      zapped[used++] = {reinterpret_cast<void*>(at), (pages.end - pages.first) * kPageBytes};
      if (used < kAgentSampleRangesMax) continue;
      zap(used);
      used = 0;
    }
  }
  zap(used);
  unlock_mappings();
  return true;
}

// Unlike a notice of discards a reply must arrive.
bool send_reply(int socket, const void* bytes, size_t size) {
  for (;;) {
    // Far below what the kernel takes in one piece, so it goes whole or not at all.
    const ssize_t sent = send(socket, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) return static_cast<size_t>(sent) == size;
    if (errno == EINTR) continue;
    pollfd room{socket, POLLOUT, 0};
    if ((errno != EAGAIN && errno != EWOULDBLOCK) || poll(&room, 1, kReplyTimeoutMs) <= 0) {
      return false;
    }
  }
}

struct Reply {
  AgentMessage header;
  uint32_t results[kAgentRemapRangesMax];
};

bool send_results(int socket, Reply& reply, uint32_t count) {
  const uint32_t bytes = count * static_cast<uint32_t>(sizeof(uint32_t));
  reply.header = {kAgentMagic, kAgentRemapped, count, bytes};
  return send_reply(socket, &reply, sizeof(reply.header) + bytes);
}

int share(const AgentShareRange& range, int pool, uint64_t pool_bytes) {
  const Region* region = region_for(range.address, range.bytes);
  if (region == nullptr || range.bytes > kAgentRemapBytesMax) return EINVAL;
  if (range.pool_offset % kPageBytes != 0 || range.pool_offset > pool_bytes ||
      range.bytes > pool_bytes - range.pool_offset) {
    return ERANGE;
  }
  return share_range(*region, range, pool);
}

int home(const AgentRange& range) {
  const Region* region = region_for(range.address, range.bytes);
  if (region == nullptr || range.bytes > kAgentRemapBytesMax) return EINVAL;
  const uint64_t first = first_page_of(*region, range.address);
  return bring_home(*region, first, first + range.bytes / kPageBytes);
}

bool serve_share(int socket, const AgentMessage& header) {
  if (header.count > kAgentRemapRangesMax ||
      header.bytes != header.count * sizeof(AgentShareRange) ||
      !read_exactly(socket, share_ranges, header.bytes)) {
    return false;
  }
  struct stat file {};
  const int pool = pool_fd();
  const bool usable = pool >= 0 && fstat(pool, &file) == 0;
  Reply reply;
  for (uint32_t i = 0; i < header.count; ++i) {
    // One range at a time, so that a vCPU that gives pages up waits for few.
    lock_mappings();
    const int error =
        usable ? share(share_ranges[i], pool, static_cast<uint64_t>(file.st_size)) : EBADF;
    unlock_mappings();
    reply.results[i] = static_cast<uint32_t>(error);
  }
  return send_results(socket, reply, header.count);
}

bool serve_home(int socket, const AgentMessage& header) {
  if (header.count > kAgentRemapRangesMax || header.bytes != header.count * sizeof(AgentRange) ||
      !read_exactly(socket, ranges, header.bytes)) {
    return false;
  }
  Reply reply;
  for (uint32_t i = 0; i < header.count; ++i) {
    lock_mappings();
    const int error = home(ranges[i]);
    unlock_mappings();
    reply.results[i] = static_cast<uint32_t>(error);
  }
  return send_results(socket, reply, header.count);
}

}  // namespace

bool serve_request(int socket, const AgentMessage& header) {
  switch (header.kind) {
    case kAgentSample:
      return serve_sample(socket, header);
    case kAgentShare:
      return serve_share(socket, header);
    case kAgentHome:
      return serve_home(socket, header);
    default:
      return false;
  }
}

}  // namespace ballast::agent
