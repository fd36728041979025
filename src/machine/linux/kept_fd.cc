#include "machine/linux/kept_fd.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

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

Status seal_size(int fd, const std::string& what) {
  (void)::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);  // judged by what is there afterwards
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
    return Error{"the " + what + " must be a memfd that can be sealed against shrinking", EINVAL};
  }
  return Done{};
}

}  // namespace ballast::linux_machine
