#include "machine/sim/sim_vm_store.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"

namespace ballast::machine::sim {

namespace {

int make_file(size_t bytes) {
  const int fd = memfd_create("ballast-sim-store", MFD_CLOEXEC);
  BALLAST_CHECK_THAT(fd >= 0, "memfd_create: errno {}", errno);
  BALLAST_CHECK(ftruncate(fd, static_cast<off_t>(bytes)) == 0);
  return fd;
}

std::span<std::byte> map(size_t bytes, int fd) {
  if (bytes == 0) return {};
  void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  BALLAST_CHECK_THAT(at != MAP_FAILED, "mmap of {} bytes: errno {}", bytes, errno);
  madvise(at, bytes, MADV_NOHUGEPAGE);
  return {static_cast<std::byte*>(at), bytes};
}

uint64_t allocated_bytes(int fd) {
  struct stat status = {};
  BALLAST_CHECK(fstat(fd, &status) == 0);
  return static_cast<uint64_t>(status.st_blocks) * 512;
}

}  // namespace

SimVmStore::SimVmStore(SimWorld& world, uint32_t vm, size_t tables_bytes, size_t arena_bytes)
    : world_(world),
      vm_(vm),
      tables_fd_(make_file(pages_to_bytes(pages_ceil(tables_bytes)))),
      arena_fd_(make_file(arena_bytes)),
      tables_(map(pages_to_bytes(pages_ceil(tables_bytes)), tables_fd_)),
      arena_(map(arena_bytes, arena_fd_)) {}

SimVmStore::~SimVmStore() {
  if (!tables_.empty()) munmap(tables_.data(), tables_.size());
  if (!arena_.empty()) munmap(arena_.data(), arena_.size());
  close(tables_fd_);
  close(arena_fd_);
}

void SimVmStore::release_arena(size_t offset_bytes, size_t bytes) {
  BALLAST_CHECK_THAT(offset_bytes % kPageBytes == 0 && bytes % kPageBytes == 0 && bytes > 0 &&
                         offset_bytes < arena_.size() && bytes <= arena_.size() - offset_bytes,
                     "release of {}+{} in an arena of {} bytes", offset_bytes, bytes,
                     arena_.size());
  if (world_.abandoned()) return;
  world_.grown();  // stores into the arena pass no interleaving point: count before they vanish
  world_.note("release", vm_, offset_bytes, bytes);
  world_.point();
  BALLAST_CHECK(fallocate(arena_fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                          static_cast<off_t>(offset_bytes), static_cast<off_t>(bytes)) == 0);
  world_.point();
}

uint64_t SimVmStore::arena_bytes() const { return allocated_bytes(arena_fd_); }
uint64_t SimVmStore::tables_bytes() const { return allocated_bytes(tables_fd_); }

bool SimVmStore::flip_arena_bit() {
  const off_t start = lseek(arena_fd_, 0, SEEK_DATA);
  if (start < 0) return false;
  const off_t end = lseek(arena_fd_, start, SEEK_HOLE);
  const size_t at =
      static_cast<size_t>(start) + world_.random().below(static_cast<uint32_t>(end - start));
  arena_[at] ^= std::byte{1} << world_.random().below(8);
  return true;
}

}  // namespace ballast::machine::sim
