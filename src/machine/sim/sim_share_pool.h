// SimSharePool: the frames of one salt group, in a memfd, so that a store allocates a frame and can
// be counted exactly, as in the store of a VM.
//
// It outlives the daemon. Every VM that maps a frame, or was asked to, *holds* it; held frames are
// write-protected for the whole process, so whoever changes the bytes that a VM reads crashes in
// the very store. One thread.
#pragma once

#include <vector>

#include "machine/share_pool.h"
#include "machine/sim/sim_world.h"

namespace ballast::machine::sim {

class SimSharePool final : public SharePool {
 public:
  SimSharePool(SimWorld& world, uint32_t group, uint32_t frame_count);
  ~SimSharePool() override;
  SimSharePool(const SimSharePool&) = delete;
  SimSharePool& operator=(const SimSharePool&) = delete;

  uint32_t frame_count() const override { return static_cast<uint32_t>(holds_.size()); }
  std::span<std::byte, kPageBytes> frame(FrameIndex frame) override;
  void release(FrameRun run) override;
  void find_present(std::vector<FrameRun>& present) override;

  // The VMs' side.
  void hold(FrameIndex frame);
  void let_go(FrameIndex frame);
  uint32_t holds(FrameIndex frame) const { return holds_[frame.raw()]; }
  std::span<std::byte, kPageBytes> bytes(FrameIndex frame) const;
  bool allocated(FrameIndex frame) const;
  // Breaks the contract, for SimMachineBugs: the frame may be written, though VMs map it.
  void expose(FrameIndex frame) { protect(frame, false); }
  // Frames that take memory now.
  uint64_t frames() const;

 private:
  void check_run(FrameRun run) const;
  void check_fresh();
  void protect(FrameIndex frame, bool read_only);

  SimWorld& world_;
  const uint32_t group_;
  std::vector<uint32_t> holds_;  // by frame
  int fd_;
  std::byte* memory_;
  std::vector<FrameIndex> fresh_;  // handed out before anything was stored into them
  uint64_t life_;                  // of the daemon that they were handed to
};

}  // namespace ballast::machine::sim
