// SharePool: the frames that the VMs of one salt group share. Part of the machine contract.
//
// One file per group; every member VM keeps it open, read-only, for the next daemon. A frame is
// allocated by the first store into it and reads as zeros before that (reading allocates it too:
// read only what was stored). The bytes of a frame never change while a VM maps it. Any thread; two
// threads never work on one frame at a time, except to read it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/units.h"

namespace ballast::machine {

class SharePool {
 public:
  virtual ~SharePool() = default;

  virtual uint32_t frame_count() const = 0;  // most frames that there can be
  virtual std::span<std::byte, kPageBytes> frame(FrameIndex frame) = 0;
  // Frees the frames: the bytes are gone. Nobody maps them any more.
  virtual void release(FrameRun run) = 0;
  // Appends the maximal runs of allocated frames, in order. For a daemon that takes a pool over.
  virtual void find_present(std::vector<FrameRun>& present) = 0;
};

}  // namespace ballast::machine
