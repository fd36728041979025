#include "machine/linux/vm_store.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/units.h"
#include "machine/linux/kept_fd.h"

namespace ballast::linux_machine {

namespace {

Result<UniqueFd> make_memfd(const std::string& name, size_t bytes) {
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

Result<UniqueFd> take_over(UniqueFd kept, size_t bytes, const std::string& what) {
  BALLAST_TRY_STATUS(check_kept(kept.get(), bytes, what));
  const int seals = ::fcntl(kept.get(), F_GET_SEALS);
  if (seals < 0 || (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW)) {
    return Error{"the kept " + what + " is not ours: not a memfd sealed against resizing", EINVAL};
  }
  return reopen(kept.get(), O_RDWR, what);
}

}  // namespace

Result<std::unique_ptr<MemfdStore>> MemfdStore::create(const std::string& name, size_t tables_bytes,
                                                       size_t arena_bytes) {
  BALLAST_TRY(UniqueFd tables, make_memfd("ballast-tables-" + name, tables_bytes));
  BALLAST_TRY(UniqueFd arena, make_memfd("ballast-arena-" + name, arena_bytes));
  return map(std::move(tables), std::move(arena), tables_bytes, arena_bytes);
}

Result<std::unique_ptr<MemfdStore>> MemfdStore::adopt(UniqueFd tables, UniqueFd arena,
                                                      size_t tables_bytes, size_t arena_bytes) {
  struct stat first {};
  struct stat second {};
  if (::fstat(tables.get(), &first) == 0 && ::fstat(arena.get(), &second) == 0 &&
      first.st_ino == second.st_ino && first.st_dev == second.st_dev) {
    return Error{"the kept tables and arena are one and the same file", EINVAL};
  }
  BALLAST_TRY(UniqueFd tables_fd, take_over(std::move(tables), tables_bytes, "tables"));
  BALLAST_TRY(UniqueFd arena_fd, take_over(std::move(arena), arena_bytes, "arena"));
  return map(std::move(tables_fd), std::move(arena_fd), tables_bytes, arena_bytes);
}

Result<std::unique_ptr<MemfdStore>> MemfdStore::map(UniqueFd tables, UniqueFd arena,
                                                    size_t tables_bytes, size_t arena_bytes) {
  std::unique_ptr<MemfdStore> store(new MemfdStore);
  BALLAST_TRY(store->tables_, Mapping::map(tables.get(), tables_bytes, "tables"));
  BALLAST_TRY(store->arena_, Mapping::map(arena.get(), arena_bytes, "arena"));
  store->tables_fd_ = std::move(tables);
  store->arena_fd_ = std::move(arena);
  return store;
}

void MemfdStore::release_arena(size_t offset_bytes, size_t bytes) {
  BALLAST_CHECK_THAT(
      offset_bytes <= arena_.bytes().size() && bytes <= arena_.bytes().size() - offset_bytes,
      "{} + {} of {}", offset_bytes, bytes, arena_.bytes().size());
  if (bytes == 0) return;
  int result = 0;
  do {
    result = ::fallocate(arena_fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                         static_cast<off_t>(offset_bytes), static_cast<off_t>(bytes));
  } while (result != 0 && errno == EINTR);
  // Our own memfd, read-write, not sealed against writing: the kernel has no reason to refuse.
  BALLAST_CHECK_THAT(result == 0, "errno {}", errno);
}

Result<UniqueFd> MemfdStore::read_only_fd(Part part) const {
  return part == Part::kTables ? reopen(tables_fd_.get(), O_RDONLY, "tables")
                               : reopen(arena_fd_.get(), O_RDONLY, "arena");
}

}  // namespace ballast::linux_machine
