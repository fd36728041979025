// How much memory this host has, and how much of it could still be used, as its kernel counts.
// Any thread.
#pragma once

#include <cstdint>
#include <string_view>

namespace ballast::linux_machine {

// 0: not known.
struct MachineMemory {
  uint64_t total_bytes = 0;
  uint64_t available_bytes = 0;  // without swapping: free, and page cache that can be dropped
};

MachineMemory machine_memory();
// Of /proc/meminfo's text.
MachineMemory parse_machine_memory(std::string_view text);

}  // namespace ballast::linux_machine
