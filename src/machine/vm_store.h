// VmStore: the memory that describes one VM and outlives the daemon. Part of the machine contract.
//
// `tables` holds the pmap and the swap checksums, `arena` the compression cache. Both start as
// zeros when the VM is new; after a daemon's death they are handed to the next daemon exactly as
// the last stores left them, in program order. Frames behind the arena are allocated on first store
// and freed by release_arena (then read as zeros).
#pragma once

#include <cstddef>
#include <span>

namespace ballast::machine {

class VmStore {
 public:
  virtual ~VmStore() = default;

  virtual std::span<std::byte> tables() = 0;  // page-aligned
  virtual std::span<std::byte> arena() = 0;   // page-aligned
  virtual void release_arena(size_t offset_bytes, size_t bytes) = 0;
};

}  // namespace ballast::machine
