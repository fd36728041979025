// BringBack: reads swapped pages of one VM back while memory is plenty, before the guest misses
// them. ESX leaves them on disk until they are touched.
//
// Order of likely use: blocks of 2 MiB in which most pages were missed lately come first (what the
// guest works on, it comes back to), then the rest in address order. One read is under way at a
// time and only while nothing else is to be done, so a fault waits behind at most one. Pages come
// back sealed with their copy kept: what is not used goes again without being written. Worker only.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/swap/swap_io.h"
#include "engine/vm.h"

namespace ballast::engine {

class BringBack {
 public:
  BringBack(Vm& vm, SwapIo& io);

  // A fault found the page swapped or compressed. O(1).
  void note_miss(PageIndex page) {
    uint8_t& heat = heat_[page.raw() / kBlockPages];
    if (heat < kHeatMax) ++heat;
  }
  // Starts the next read if policy and memory allow. True if one was started.
  bool turn();

 private:
  static constexpr uint32_t kBlockPages = 512;
  static constexpr uint8_t kHeatMax = 255;
  static constexpr uint32_t kReadPages = 16;
  // Blocks without a swapped page that one turn looks through at most.
  static constexpr uint32_t kBlocksPerTurn = 32;

  bool allowed() const;
  // The first page in the block, from `from`, that could be read now; page_count() if none.
  uint32_t find_swapped(uint32_t from, uint32_t end) const;
  void next_block();

  Vm& vm_;
  SwapIo& io_;
  std::vector<uint8_t> heat_;  // per block: misses, forgotten when the block was brought back
  uint32_t at_ = 0;            // next page to look at, in the current block
  uint32_t block_end_ = 0;
  uint32_t sweep_ = 0;     // next block of the address-order walk
  uint32_t failures_ = 0;  // reads of ours that failed, as far as they were answered by a pause
  Nanoseconds paused_until_ = 0;
};

}  // namespace ballast::engine
