// The calls of QEMU that the agent stands in front of. Everything that is not guest RAM goes
// straight through.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/agent.h"

// glibc declares the 64-bit names as aliases on x86-64; both are exported because programs import
// either.
#define BALLAST_INTERPOSE extern "C" __attribute__((visibility("default")))

namespace ballast::agent {

namespace {

// The next definition of a symbol, looked up at the first call, which may come before any
// constructor ran.
template <typename Function>
Function* next(std::atomic<Function*>& cached, const char* name) {
  Function* function = cached.load(std::memory_order_relaxed);
  if (function == nullptr) {
    function = reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
    cached.store(function, std::memory_order_relaxed);
  }
  return function;
}

using MmapFunction = void*(void*, size_t, int, int, int, off_t);
using MunmapFunction = int(void*, size_t);
using FallocateFunction = int(int, int, off_t, off_t);
constinit std::atomic<MmapFunction*> next_mmap{nullptr};
constinit std::atomic<MunmapFunction*> next_munmap{nullptr};
using MadviseFunction = int(void*, size_t, int);
constinit std::atomic<FallocateFunction*> next_fallocate{nullptr};
constinit std::atomic<MadviseFunction*> next_madvise{nullptr};

void* real_mmap(void* address, size_t length, int protection, int flags, int fd, off_t offset) {
  if (MmapFunction* function = next(next_mmap, "mmap64")) {
    return function(address, length, protection, flags, fd, offset);
  }
  // NOLINTNEXTLINE(performance-no-int-to-ptr): that is how the system call returns it.
  return reinterpret_cast<void*>(syscall(SYS_mmap, address, length, protection, flags, fd, offset));
}

int real_munmap(void* address, size_t length) {
  if (MunmapFunction* function = next(next_munmap, "munmap")) return function(address, length);
  return static_cast<int>(syscall(SYS_munmap, address, length));
}

int real_fallocate(int fd, int mode, off_t offset, off_t length) {
  if (FallocateFunction* function = next(next_fallocate, "fallocate64")) {
    return function(fd, mode, offset, length);
  }
  return static_cast<int>(syscall(SYS_fallocate, fd, mode, offset, length));
}

int real_madvise(void* address, size_t length, int advice) {
  if (MadviseFunction* function = next(next_madvise, "madvise")) {
    return function(address, length, advice);
  }
  return static_cast<int>(syscall(SYS_madvise, address, length, advice));
}

void* watched_mmap(void* address, size_t length, int protection, int flags, int fd, off_t offset) {
  const int caller_errno = errno;
  const bool ram = is_guest_ram(length, protection, flags, fd);
  errno = caller_errno;
  void* mapped = real_mmap(address, length, protection, flags, fd, offset);
  if (!ram || mapped == MAP_FAILED) return mapped;
  if (!adopt_region(mapped, length, protection, flags, fd, offset)) {
    real_munmap(mapped, length);
    errno = ENOMEM;
    return MAP_FAILED;
  }
  errno = caller_errno;
  return mapped;
}

int watched_fallocate(int fd, int mode, off_t offset, off_t length) {
  const int caller_errno = errno;
  FileRange range;
  const bool ram = (mode & FALLOC_FL_PUNCH_HOLE) != 0 && is_ram_range(fd, offset, length, range);
  errno = caller_errno;
  if (!ram) return real_fallocate(fd, mode, offset, length);
  if (!begin_discard(range)) return -1;
  errno = caller_errno;
  const int result = real_fallocate(fd, mode, offset, length);
  const int result_errno = errno;
  end_discard(range);
  errno = result_errno;
  return result;
}

int watched_madvise(void* address, size_t length, int advice) {
  if (!overlaps_region(reinterpret_cast<uint64_t>(address), length)) {
    return real_madvise(address, length, advice);
  }
  const int caller_errno = errno;
  const int result = advise_ram(address, length, advice);
  if (result == 0) errno = caller_errno;
  return result;
}

}  // namespace

}  // namespace ballast::agent

BALLAST_INTERPOSE void* mmap64(void* address, size_t length, int protection, int flags, int fd,
                               off_t offset) noexcept {
  return ballast::agent::watched_mmap(address, length, protection, flags, fd, offset);
}

BALLAST_INTERPOSE void* mmap(void* address, size_t length, int protection, int flags, int fd,
                             off_t offset) noexcept {
  return ballast::agent::watched_mmap(address, length, protection, flags, fd, offset);
}

BALLAST_INTERPOSE int munmap(void* address, size_t length) noexcept {
  ballast::agent::forget_region(address, length);
  return ballast::agent::real_munmap(address, length);
}

BALLAST_INTERPOSE int fallocate64(int fd, int mode, off_t offset, off_t length) {
  return ballast::agent::watched_fallocate(fd, mode, offset, length);
}

BALLAST_INTERPOSE int fallocate(int fd, int mode, off_t offset, off_t length) {
  return ballast::agent::watched_fallocate(fd, mode, offset, length);
}

BALLAST_INTERPOSE int madvise(void* address, size_t length, int advice) noexcept {
  return ballast::agent::watched_madvise(address, length, advice);
}
