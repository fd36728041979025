// TestPool: a share pool in plain memory, for tests of what stands on it.
#pragma once

#include <cstring>
#include <memory>
#include <vector>

#include "machine/share_pool.h"

namespace ballast::engine {

class TestPool final : public machine::SharePool {
 public:
  explicit TestPool(uint32_t frames) : bytes_(size_t{frames} * kPageBytes), present_(frames) {}

  uint32_t frame_count() const override { return static_cast<uint32_t>(present_.size()); }
  std::span<std::byte, kPageBytes> frame(FrameIndex frame) override {
    present_[frame.raw()] = 1;
    return std::span<std::byte, kPageBytes>(bytes_.data() + size_t{frame.raw()} * kPageBytes,
                                            kPageBytes);
  }
  void release(FrameRun run) override {
    for (uint32_t i = 0; i < run.count; ++i) {
      std::memset(frame(run.first + i).data(), 0, kPageBytes);
      present_[(run.first + i).raw()] = 0;
    }
  }
  void find_present(std::vector<FrameRun>& present) override {
    for (uint32_t i = 0; i < frame_count(); ++i) {
      if (present_[i] != 0) present.push_back({FrameIndex(i), 1});
    }
  }
  uint32_t frames() const {
    uint32_t count = 0;
    for (const char one : present_) count += one != 0 ? 1 : 0;
    return count;
  }

 private:
  std::vector<std::byte> bytes_;
  std::vector<char> present_;
};

}  // namespace ballast::engine
