// Oracle: knows what each half page of one guest must hold, and judges every read.
//
// A page that the guest discarded may read as zeros or as anything older of its own until it is
// written again. While a discard is under way ("open") even what is written then may vanish: the
// guest promised not to use it.
#pragma once

#include <string>
#include <vector>

#include "simulator/content.h"

namespace ballast::simulator {

class Oracle {
 public:
  Oracle(uint32_t vm, uint32_t pages) : vm_(vm), halves_(size_t{pages} * 2), open_(pages) {}

  // The guest writes a half page now. Returns what it must store. `version`: of kCommon.
  Content next_write(uint32_t half, Kind kind, uint32_t version = 0);
  void discard_begins(uint32_t page);
  void discard_ends(uint32_t page) { open_[page] = false; }
  bool discarding(uint32_t page) const { return open_[page]; }

  // Empty if the page may read like this, else what is wrong with it.
  std::string judge(uint32_t page, std::span<const std::byte, kPageBytes> bytes) const;

 private:
  struct HalfState {
    Content content;
    uint32_t writes = 0;
    uint8_t common = 0;  // bit v: version v of the image was written here
    bool discarded = false;
  };
  std::string describe(uint32_t half, ConstHalf bytes) const;
  bool acceptable(uint32_t half, ConstHalf bytes) const;

  const uint32_t vm_;
  std::vector<HalfState> halves_;
  std::vector<bool> open_;
};

}  // namespace ballast::simulator
