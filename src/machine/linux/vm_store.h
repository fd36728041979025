// MemfdStore: the VM's tables and compression arena in two memfds that the VM's agent keeps open
// for the next daemon.
//
// Both are sealed against resizing and closed to other users; the agent gets read-only descriptors,
// so a QEMU without our rights can keep them but not write them. The arena is sparse: only stored
// bytes take frames. The VM's worker only.
#pragma once

#include <memory>
#include <string>

#include "machine/linux/mapping.h"
#include "machine/linux/unique_fd.h"
#include "machine/vm_store.h"

namespace ballast::linux_machine {

class MemfdStore final : public machine::VmStore {
 public:
  enum class Part { kTables, kArena };

  // New, all zeros. Sizes are multiples of 4 KiB; 0 is allowed. `name` shows in /proc/PID/maps.
  static Result<std::unique_ptr<MemfdStore>> create(const std::string& name, size_t tables_bytes,
                                                    size_t arena_bytes);
  // From the descriptors that came back from the agent.
  static Result<std::unique_ptr<MemfdStore>> adopt(UniqueFd tables, UniqueFd arena,
                                                   size_t tables_bytes, size_t arena_bytes);

  std::span<std::byte> tables() override { return tables_.bytes(); }
  std::span<std::byte> arena() override { return arena_.bytes(); }
  void release_arena(size_t offset_bytes, size_t bytes) override;

  // A read-only descriptor for the agent to keep.
  Result<UniqueFd> read_only_fd(Part part) const;

 private:
  static Result<std::unique_ptr<MemfdStore>> map(UniqueFd tables, UniqueFd arena,
                                                 size_t tables_bytes, size_t arena_bytes);

  UniqueFd tables_fd_;
  UniqueFd arena_fd_;
  Mapping tables_;
  Mapping arena_;
};

}  // namespace ballast::linux_machine
