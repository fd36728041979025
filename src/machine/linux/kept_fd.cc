#include "machine/linux/kept_fd.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/units.h"

namespace ballast::linux_machine {

Result<UniqueFd> reopen(int fd, int flags, const std::string& what) {
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  UniqueFd opened(::open(path.c_str(), flags | O_CLOEXEC));
  if (!opened.valid()) return system_error("re-open the " + what);
  return opened;
}

Status check_kept(int fd, uint64_t bytes, const std::string& what) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return system_error("kept " + what);
  const std::string prefix = "the kept " + what + " is not ours: ";
  if (!S_ISREG(info.st_mode)) return Error{prefix + "not a regular file", EINVAL};
  if (info.st_nlink != 0) return Error{prefix + "it has a name in a directory", EINVAL};
  if (info.st_uid != ::geteuid()) return Error{prefix + "it belongs to another user", EPERM};
  if ((info.st_mode & 0077) != 0) return Error{prefix + "others may open it", EPERM};
  if (static_cast<uint64_t>(info.st_size) != bytes) {
    return Error{prefix + "it has " + std::to_string(info.st_size) + " bytes, expected " +
                     std::to_string(bytes),
                 EINVAL};
  }
  return Done{};
}

Result<UniqueFd> make_kept_memfd(const std::string& name, uint64_t bytes) {
  BALLAST_CHECK(bytes % kPageBytes == 0);
  UniqueFd fd(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return system_error("create memfd " + name);
  // 0600: a read-only descriptor in another user's process must not be re-opened read-write through
  // /proc.
  if (::fchmod(fd.get(), 0600) != 0 || ::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0 ||
      ::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return system_error("set up memfd " + name);
  }
  return fd;
}

Result<UniqueFd> take_kept_memfd(UniqueFd kept, uint64_t bytes, const std::string& what) {
  BALLAST_TRY_STATUS(check_kept(kept.get(), bytes, what));
  const int seals = ::fcntl(kept.get(), F_GET_SEALS);
  if (seals < 0 || (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW)) {
    return Error{"the kept " + what + " is not ours: not a memfd sealed against resizing", EINVAL};
  }
  return reopen(kept.get(), O_RDWR, what);
}

Status seal_size(int fd, const std::string& what) {
  (void)::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);  // judged by what is there afterwards
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
    return Error{"the " + what + " must be a memfd that can be sealed against shrinking", EINVAL};
  }
  return Done{};
}

}  // namespace ballast::linux_machine
