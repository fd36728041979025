// Descriptors that the VM's agent keeps for the next daemon: how they are re-opened, and how one
// that comes back is told from one that a lying agent made up. Any thread.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "machine/linux/unique_fd.h"

namespace ballast::linux_machine {

// A new open file description of the same file with other flags, through /proc/self/fd. `what`
// names it in the error.
Result<UniqueFd> reopen(int fd, int flags, const std::string& what);

// Refuses what no daemon of this user can have made: not a regular file of exactly `bytes`, with a
// name, or open to others. Without this a QEMU that may read some file of ours could have the
// daemon, which may do more, overwrite it.
Status check_kept(int fd, uint64_t bytes, const std::string& what);

// A new sparse memfd for agents to keep: sealed against resizing, closed to other users.
Result<UniqueFd> make_kept_memfd(const std::string& name, uint64_t bytes);
// One that came back, by a read-write descriptor of our own; refuses what make_kept_memfd cannot
// have made with this size.
Result<UniqueFd> take_kept_memfd(UniqueFd kept, uint64_t bytes, const std::string& what);

// Adds F_SEAL_SHRINK to a memory file so that nobody can truncate it under a mapping (SIGBUS) or a
// page table; refuses a file that cannot be sealed.
Status seal_size(int fd, const std::string& what);

}  // namespace ballast::linux_machine
