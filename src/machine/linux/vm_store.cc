#include "machine/linux/vm_store.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>

#include "base/units.h"
#include "machine/linux/kept_fd.h"

namespace ballast::linux_machine {

Result<std::unique_ptr<MemfdStore>> MemfdStore::create(const std::string& name, size_t tables_bytes,
                                                       size_t arena_bytes) {
  BALLAST_TRY(UniqueFd tables, make_kept_memfd("ballast-tables-" + name, tables_bytes));
  BALLAST_TRY(UniqueFd arena, make_kept_memfd("ballast-arena-" + name, arena_bytes));
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
  BALLAST_TRY(UniqueFd tables_fd, take_kept_memfd(std::move(tables), tables_bytes, "tables"));
  BALLAST_TRY(UniqueFd arena_fd, take_kept_memfd(std::move(arena), arena_bytes, "arena"));
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
