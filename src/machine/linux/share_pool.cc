#include "machine/linux/share_pool.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>

#include "machine/linux/kept_fd.h"

namespace ballast::linux_machine {

Result<std::unique_ptr<LinuxSharePool>> LinuxSharePool::create(const std::string& name,
                                                               uint32_t frames) {
  BALLAST_CHECK(frames > 0);
  const uint64_t bytes = pages_to_bytes(frames);
  BALLAST_TRY(UniqueFd file, make_kept_memfd("ballast-pool-" + name, bytes));
  return map(std::move(file), bytes);
}

Result<std::unique_ptr<LinuxSharePool>> LinuxSharePool::adopt(UniqueFd kept) {
  struct stat info {};
  if (::fstat(kept.get(), &info) != 0) return system_error("kept share pool");
  const auto bytes = static_cast<uint64_t>(info.st_size);
  if (bytes == 0 || bytes % kPageBytes != 0 || pages_floor(bytes) > UINT32_MAX) {
    return Error{
        "the kept share pool is not ours: it has " + std::to_string(info.st_size) + " bytes",
        EINVAL};
  }
  BALLAST_TRY(UniqueFd file, take_kept_memfd(std::move(kept), bytes, "share pool"));
  return map(std::move(file), bytes);
}

Result<std::unique_ptr<LinuxSharePool>> LinuxSharePool::map(UniqueFd file, uint64_t bytes) {
  std::unique_ptr<LinuxSharePool> pool(new LinuxSharePool);
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return system_error("share pool");
  BALLAST_TRY(pool->mapping_, Mapping::map(file.get(), bytes, "share pool"));
  // One store must allocate one frame, whatever the host's setting for huge pages of memfds is.
  (void)::madvise(pool->mapping_.bytes().data(), bytes, MADV_NOHUGEPAGE);
  pool->file_ = std::move(file);
  pool->frames_ = static_cast<uint32_t>(pages_floor(bytes));
  pool->identity_ = {info.st_dev, info.st_ino};
  return pool;
}

std::span<std::byte, kPageBytes> LinuxSharePool::frame(FrameIndex frame) {
  BALLAST_CHECK_THAT(frame.raw() < frames_, "{} of {}", frame.raw(), frames_);
  return mapping_.bytes().subspan(pages_to_bytes(frame.raw())).first<kPageBytes>();
}

void LinuxSharePool::release(FrameRun run) {
  BALLAST_CHECK_THAT(run.first.raw() <= frames_ && run.count <= frames_ - run.first.raw(),
                     "{} + {} of {}", run.first.raw(), run.count, frames_);
  if (run.count == 0) return;
  int result = 0;
  do {
    result = ::fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                         static_cast<off_t>(pages_to_bytes(run.first.raw())),
                         static_cast<off_t>(pages_to_bytes(run.count)));
  } while (result != 0 && errno == EINTR);
  // Our own memfd, read-write, not sealed against writing: the kernel has no reason to refuse.
  BALLAST_CHECK_THAT(result == 0, "errno {}", errno);
}

void LinuxSharePool::find_present(std::vector<FrameRun>& present) {
  const auto end = static_cast<off_t>(pages_to_bytes(frames_));
  off_t at = 0;
  while (at < end) {
    const off_t data = ::lseek(file_.get(), at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) return;
    const off_t hole = data < 0 ? data : ::lseek(file_.get(), data, SEEK_HOLE);
    BALLAST_CHECK_THAT(hole >= 0, "errno {}", errno);
    // A frame may be released between the two calls.
    at = std::max(hole, data + static_cast<off_t>(kPageBytes));
    if (hole <= data) continue;
    present.push_back({FrameIndex(static_cast<uint32_t>(pages_floor(static_cast<uint64_t>(data)))),
                       static_cast<uint32_t>(pages_floor(static_cast<uint64_t>(hole - data)))});
  }
}

Result<UniqueFd> LinuxSharePool::read_only_fd() const {
  return reopen(file_.get(), O_RDONLY, "share pool");
}

}  // namespace ballast::linux_machine
