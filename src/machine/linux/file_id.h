// FileId: which file a descriptor means, whoever opened it. Plain data.
#pragma once

#include <cstdint>

namespace ballast::linux_machine {

struct FileId {
  uint64_t device = 0;
  uint64_t inode = 0;
  bool operator==(const FileId&) const = default;
};

}  // namespace ballast::linux_machine
