// How a swap file comes to be: created with all its space reserved, or taken over from a dead
// daemon. Every refusal says what to do.
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>

#include "machine/linux/kept_fd.h"
#include "machine/linux/swap_file.h"

namespace ballast::linux_machine {

namespace {

#ifndef RAMFS_MAGIC
constexpr long RAMFS_MAGIC = 0x858458f6;
#endif

bool is_memory(int fd) {
  struct statfs info {};
  if (::fstatfs(fd, &info) != 0) return false;
  return info.f_type == TMPFS_MAGIC || info.f_type == RAMFS_MAGIC || info.f_type == HUGETLBFS_MAGIC;
}

Status check_room(int directory_fd, const std::string& directory, uint64_t bytes) {
  struct statvfs info {};
  if (::fstatvfs(directory_fd, &info) != 0) {
    return system_error("swap directory " + directory);
  }
  const uint64_t free_bytes = uint64_t{info.f_bavail} * info.f_frsize;
  if (free_bytes >= bytes) return Done{};
  return Error{"swap directory " + directory + ": the VM needs " + std::to_string(bytes) +
                   " bytes (" + format_size(bytes) + ") of swap and the file system has " +
                   std::to_string(free_bytes) + " bytes (" + format_size(free_bytes) +
                   ") free; give the VM a larger --min, or use a larger --swap-dir",
               ENOSPC};
}

Result<UniqueFd> open_directory(const std::string& directory) {
  UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.valid()) return fd;
  if (errno == ENOENT) {
    return Error{"swap directory " + directory +
                     " does not exist; create it or name another with --swap-dir",
                 ENOENT};
  }
  if (errno == ENOTDIR) {
    return Error{"swap directory " + directory + " is not a directory; name one with --swap-dir",
                 ENOTDIR};
  }
  return system_error("swap directory " + directory);
}

// O_TMPFILE where the file system has it, else a named file that is unlinked at once. A file of
// that name can only be the trace of a crash between these two steps: it is removed.
UniqueFd open_nameless(int directory_fd, const std::string& name, int extra) {
  UniqueFd fd(::openat(directory_fd, ".", O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC | extra, 0600));
  if (fd.valid() || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT)) return fd;
  const std::string file = name + ".vswp";
  (void)::unlinkat(directory_fd, file.c_str(), 0);
  fd.reset(
      ::openat(directory_fd, file.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | extra, 0600));
  if (fd.valid()) (void)::unlinkat(directory_fd, file.c_str(), 0);
  return fd;
}

// Some file systems accept O_DIRECT and refuse the first transfer (blocks larger than a page,
// stacked file systems).
bool direct_works(int fd, uint64_t bytes) {
  if (bytes == 0) return true;
  alignas(kPageBytes) static thread_local std::byte page[kPageBytes];
  return ::pread(fd, page, sizeof(page), 0) >= 0;
}

void drop_direct(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  (void)::fcntl(fd, F_SETFL, flags & ~O_DIRECT);
}

bool settle_direct(int fd, uint64_t bytes) {
  if ((::fcntl(fd, F_GETFL) & O_DIRECT) == 0) return false;
  if (direct_works(fd, bytes)) return true;
  drop_direct(fd);
  return false;
}

Status reserve(int fd, int directory_fd, const std::string& directory, uint64_t bytes) {
  if (bytes == 0) return Done{};
  int result = 0;
  do {
    result = ::fallocate(fd, 0, 0, static_cast<off_t>(bytes));
  } while (result != 0 && errno == EINTR);
  if (result == 0) return Done{};
  if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) {
    // Free blocks were enough a moment ago: a quota, or somebody else was faster.
    BALLAST_TRY_STATUS(check_room(directory_fd, directory, bytes));
    return system_error("swap directory " + directory + ": reserve " + std::to_string(bytes) +
                        " bytes");
  }
  if (errno == EOPNOTSUPP) {
    return Error{"swap directory " + directory +
                     ": its file system cannot reserve space (fallocate); "
                     "name a directory on ext4, xfs or btrfs with --swap-dir",
                 EOPNOTSUPP};
  }
  return system_error("swap directory " + directory + ": reserve " + std::to_string(bytes) +
                      " bytes");
}

const char* const kNotDirect =
    "the swap directory's file system has no direct I/O: swap goes through the page cache";

}  // namespace

Result<std::unique_ptr<SwapFile>> SwapFile::create(const std::string& directory,
                                                   const std::string& name, uint64_t bytes,
                                                   SwapFileChoices choices) {
  BALLAST_CHECK(bytes % kPageBytes == 0 && pages_floor(bytes) <= UINT32_MAX);
  BALLAST_CHECK(name.find('/') == std::string::npos);
  BALLAST_TRY(UniqueFd parent, open_directory(directory));
  if (is_memory(parent.get())) {
    return Error{
        "swap directory " + directory +
            " is on a memory file system; memory is no place to swap to: name a directory on "
            "disk with --swap-dir",
        EINVAL};
  }
  BALLAST_TRY_STATUS(check_room(parent.get(), directory, bytes));
  UniqueFd file;
  if (choices.use_direct) file = open_nameless(parent.get(), name, O_DIRECT);
  if (!file.valid() && (!choices.use_direct || errno == EINVAL)) {
    file = open_nameless(parent.get(), name, 0);
  }
  if (!file.valid()) return system_error("create a swap file in " + directory);
  BALLAST_TRY_STATUS(reserve(file.get(), parent.get(), directory, bytes));
  const bool direct = settle_direct(file.get(), bytes);
  std::unique_ptr<SwapFile> swap(new SwapFile(std::move(file), bytes, direct));
  if (!direct) swap->notices_.emplace_back(kNotDirect);
  swap->start_ring(choices);
  return swap;
}

Result<std::unique_ptr<SwapFile>> SwapFile::adopt(UniqueFd kept, uint64_t bytes,
                                                  SwapFileChoices choices) {
  BALLAST_CHECK(bytes % kPageBytes == 0 && pages_floor(bytes) <= UINT32_MAX);
  BALLAST_TRY_STATUS(check_kept(kept.get(), bytes, "swap file"));
  if (is_memory(kept.get())) return Error{"the kept swap file is not on a disk", EINVAL};
  UniqueFd file;
  if (choices.use_direct) {
    if (auto direct_file = reopen(kept.get(), O_RDWR | O_DIRECT, "swap file")) {
      file = std::move(*direct_file);
    }
  }
  if (!file.valid()) {
    BALLAST_TRY(file, reopen(kept.get(), O_RDWR, "swap file"));
  }
  // The dead daemon's direct writes may still be on their way to the disk, and would land on slots
  // that we hand out anew. Reserving the same range again changes nothing, but the kernel waits for
  // direct I/O in flight on the file before it looks (ext4: inode_dio_wait in ext4_fallocate; xfs
  // and btrfs likewise).
  if (bytes > 0) {
    int result = 0;
    do {
      result = ::fallocate(file.get(), FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(bytes));
    } while (result != 0 && errno == EINTR);
    // Without room for a second reservation (copy-on-write file systems) the wait has happened all
    // the same.
    if (result != 0 && errno != ENOSPC && errno != EDQUOT) return system_error("kept swap file");
  }
  const bool direct = settle_direct(file.get(), bytes);
  std::unique_ptr<SwapFile> swap(new SwapFile(std::move(file), bytes, direct));
  if (!direct) swap->notices_.emplace_back(kNotDirect);
  swap->start_ring(choices);
  return swap;
}

Result<UniqueFd> SwapFile::read_only_fd() const {
  return reopen(file_.get(), O_RDONLY, "swap file");
}

Result<uint64_t> SwapFile::kept_bytes(int kept, uint64_t least, uint64_t most) {
  struct stat info {};
  if (::fstat(kept, &info) != 0) return system_error("kept swap file");
  const auto bytes = static_cast<uint64_t>(info.st_size);
  if (bytes < least || bytes > most || bytes % kPageBytes != 0) {
    return Error{fmt::format("the kept swap file is not ours: it has {} bytes, {} to {} expected",
                             bytes, least, most),
                 EINVAL};
  }
  return bytes;
}

Status SwapFile::extend(uint64_t bytes) const {
  struct stat before {};
  if (::fstat(file_.get(), &before) != 0) return system_error("swap file");
  int result = 0;
  do {
    result = ::fallocate(file_.get(), 0, 0, static_cast<off_t>(bytes));
  } while (result != 0 && errno == EINTR);
  if (result == 0) return Done{};
  const Error refused =
      system_error(fmt::format("reserve {} in the swap file", format_size(bytes)));
  // A file system that runs full keeps what it had found until then.
  if (::ftruncate(file_.get(), before.st_size) != 0) return system_error("shorten the swap file");
  return refused;
}

}  // namespace ballast::linux_machine
