#include "machine/sim/sim_share_pool.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/check.h"

namespace ballast::machine::sim {

namespace {

off_t offset_of(FrameIndex frame) { return static_cast<off_t>(pages_to_bytes(frame.raw())); }

bool all_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

// What a call after the daemon's death may scribble on.
std::span<std::byte, kPageBytes> nowhere() {
  alignas(kPageBytes) static std::byte page[kPageBytes];
  return page;
}

}  // namespace

SimSharePool::SimSharePool(SimWorld& world, uint32_t group, uint32_t frame_count)
    : world_(world),
      group_(group),
      holds_(frame_count),
      fd_(memfd_create("ballast-sim-pool", MFD_CLOEXEC)),
      life_(world.life()) {
  BALLAST_CHECK_THAT(fd_ >= 0, "memfd_create: errno {}", errno);
  const size_t bytes = pages_to_bytes(frame_count);
  BALLAST_CHECK(ftruncate(fd_, static_cast<off_t>(bytes)) == 0);
  void* const at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
  BALLAST_CHECK_THAT(at != MAP_FAILED, "mmap of {} bytes: errno {}", bytes, errno);
  madvise(at, bytes, MADV_NOHUGEPAGE);
  memory_ = static_cast<std::byte*>(at);
}

SimSharePool::~SimSharePool() {
  munmap(memory_, pages_to_bytes(frame_count()));
  close(fd_);
}

void SimSharePool::check_run(FrameRun run) const {
  BALLAST_CHECK_THAT(run.count > 0 && run.first.raw() < frame_count() &&
                         run.count <= frame_count() - run.first.raw(),
                     "frames {}+{} of a pool of {}", run.first.raw(), run.count, frame_count());
}

std::span<std::byte, kPageBytes> SimSharePool::bytes(FrameIndex frame) const {
  return std::span<std::byte, kPageBytes>(memory_ + offset_of(frame), kPageBytes);
}

bool SimSharePool::allocated(FrameIndex frame) const {
  return lseek(fd_, offset_of(frame), SEEK_DATA) == offset_of(frame);
}

uint64_t SimSharePool::frames() const {
  struct stat status = {};
  BALLAST_CHECK(fstat(fd_, &status) == 0);
  return static_cast<uint64_t>(status.st_blocks) * 512 / kPageBytes;
}

// Reading a frame that nobody stored into allocates it, for nothing and behind the ledger's back.
// Only pages of zeros look like that afterwards, and those are never shared.
void SimSharePool::check_fresh() {
  if (life_ != world_.life()) fresh_.clear();  // that daemon may have died before its first store
  life_ = world_.life();
  std::erase_if(fresh_, [this](FrameIndex frame) {
    if (!allocated(frame)) return false;
    BALLAST_CHECK_THAT(!all_zero(bytes(frame)),
                       "frame {} of pool {} was read before anything was stored into it",
                       frame.raw(), group_);
    return true;
  });
}

std::span<std::byte, kPageBytes> SimSharePool::frame(FrameIndex frame) {
  check_run({frame, 1});
  if (world_.abandoned()) return nowhere();
  world_.point(20);
  check_fresh();
  if (!allocated(frame)) fresh_.push_back(frame);
  return bytes(frame);
}

void SimSharePool::release(FrameRun run) {
  check_run(run);
  if (world_.abandoned()) return;
  world_.grown();  // stores into frames pass no interleaving point: count before they vanish
  world_.note("unpool", group_, run.first.raw(), run.count);
  world_.point();
  check_fresh();
  for (FrameIndex frame = run.first; frame < run.end(); ++frame) {
    BALLAST_CHECK_THAT(holds(frame) == 0, "frame {} of pool {} is released, but {} pages map it",
                       frame.raw(), group_, holds(frame));
  }
  BALLAST_CHECK(fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset_of(run.first),
                          static_cast<off_t>(pages_to_bytes(run.count))) == 0);
  std::erase_if(fresh_,
                [run](FrameIndex frame) { return frame >= run.first && frame < run.end(); });
  world_.point();
}

void SimSharePool::find_present(std::vector<FrameRun>& present) {
  if (world_.abandoned()) return;
  world_.note("pool", group_);
  world_.point();
  check_fresh();
  for (off_t at = lseek(fd_, 0, SEEK_DATA); at >= 0; at = lseek(fd_, at, SEEK_DATA)) {
    const off_t end = lseek(fd_, at, SEEK_HOLE);
    const auto page_bytes = static_cast<off_t>(kPageBytes);
    present.push_back({FrameIndex(static_cast<uint32_t>(at / page_bytes)),
                       static_cast<uint32_t>((end - at) / page_bytes)});
    at = end;
  }
  world_.point();
}

void SimSharePool::protect(FrameIndex frame, bool read_only) {
  const int access = read_only ? PROT_READ : PROT_READ | PROT_WRITE;
  BALLAST_CHECK_THAT(mprotect(bytes(frame).data(), kPageBytes, access) == 0, "errno {}", errno);
}

void SimSharePool::hold(FrameIndex frame) {
  check_fresh();
  BALLAST_CHECK_THAT(allocated(frame),
                     "frame {} of pool {} is mapped, but nothing was stored in it", frame.raw(),
                     group_);
  if (holds_[frame.raw()]++ == 0) protect(frame, true);
}

void SimSharePool::let_go(FrameIndex frame) {
  BALLAST_CHECK(holds(frame) > 0);
  if (--holds_[frame.raw()] == 0) protect(frame, false);
}

}  // namespace ballast::machine::sim
