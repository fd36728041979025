// Attach: a hand-off becomes a VM that can be managed, or a refusal with a sentence for its user.
//
// Everything that the agent says is compared with what the kernel says: the descriptors are what
// they should be, and the process that connected maps exactly these files at exactly these
// addresses. What passes cannot make the daemon fault, block, or touch another VM's memory; a QEMU
// that lies can only hurt itself. Any thread; reads /proc, takes well under a millisecond.
#pragma once

#include <optional>
#include <vector>

#include "machine/linux/agent_link.h"
#include "machine/linux/file_id.h"
#include "machine/linux/hand_off.h"
#include "machine/linux/uffd_memory.h"
#include "machine/linux/vm_process.h"

namespace ballast::linux_machine {

struct Attachment {
  HandOff hand_off;
  UniqueFd uffd;
  std::vector<UniqueFd> ram_files;
  std::vector<FileId> ram_ids;  // of ram_files
  UniqueFd discards;
  UniqueFd tables;  // these three are valid if hand_off.has_kept
  UniqueFd arena;
  UniqueFd swap;
  UniqueFd pool;  // valid if hand_off.has_pool; LinuxSharePool::adopt judges it

  // What UffdMemory::create needs; moves the descriptors out. `pid` for sampling and sharing; `zap`
  // and `remap` as there.
  UffdMemory::Parts memory_parts(pid_t pid, UffdMemory::Zap zap, RemapQueue::Senders remap = {});
};

// Validates text and descriptors. `process`: the peer of the connection.
Result<Attachment> attach(HandOffMessage message, const VmProcess& process);

// A later hand-off of the same connection must repeat the first regions and may add some. Returns
// how many are new.
Result<size_t> check_continuation(const HandOff& before, const HandOff& now);

// The mappings of one process, as /proc/PID/maps lists them: does it map [address, address + bytes)
// shared and writable, from `file` at file_offset? The range may consist of several adjacent
// mappings, and parts of it may be private mappings of `pool`: pages that are away. `maps` is the
// text of that list.
bool maps_shared(const std::string& maps, const HandOffRegion& region, const FileId& file,
                 const std::optional<FileId>& pool);

}  // namespace ballast::linux_machine
