// The kernel's limit on mappings per process. Every stretch of shared pages is a mapping of its own
// in the VM's process, and the limit is the host's, so it has to be known and large.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace ballast::linux_machine {

struct MapCount {
  uint64_t now = 0;      // vm.max_map_count
  bool refused = false;  // it is below what was wanted and could not be raised,
  std::string why;       // for this reason
};

// Reads the limit and raises it to `wanted` if it is lower; never lowers it. An error if it cannot
// even be read. Any thread. `path` for tests.
Result<MapCount> raise_map_count(uint64_t wanted,
                                 const std::string& path = "/proc/sys/vm/max_map_count");

}  // namespace ballast::linux_machine
