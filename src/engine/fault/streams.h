// Streams: tells a walk through memory from random accesses, so that one answer can serve what
// comes next.
//
// Remembers where the last few served runs ended; a fault there (or a little beyond, past pages
// that were present) continues the walk and doubles its reach. Fixed size, one per VM.
#pragma once

#include <array>
#include <cstdint>

#include "base/units.h"

namespace ballast::engine {

class Streams {
 public:
  // How many faults in a row continued the walk that this one belongs to; 0 = random.
  uint32_t steps_at(PageIndex page) {
    current_ = 0;
    while (current_ < streams_.size() && !continues(streams_[current_], page)) ++current_;
    if (current_ < streams_.size()) {
      Stream& stream = streams_[current_];
      stream.steps = stream.steps < kStepsMax ? stream.steps + 1 : kStepsMax;
    } else {
      current_ = oldest();
      streams_[current_].steps = 0;
    }
    streams_[current_].used = ++clock_;
    return streams_[current_].steps;
  }
  // Where the answer to the fault just asked about ended.
  void served_until(PageIndex end) { streams_[current_].next = end.raw(); }

 private:
  static constexpr uint32_t kSlack =
      16;  // pages that may be present between two faults of one walk
  static constexpr uint32_t kStepsMax = 3;
  struct Stream {
    uint32_t next = 0;
    uint32_t steps = 0;
    uint64_t used = 0;
  };
  static bool continues(const Stream& stream, PageIndex page) {
    return stream.used != 0 && page.raw() >= stream.next && page.raw() - stream.next < kSlack;
  }
  uint32_t oldest() const {
    uint32_t found = 0;
    for (uint32_t i = 1; i < streams_.size(); ++i) {
      if (streams_[i].used < streams_[found].used) found = i;
    }
    return found;
  }

  std::array<Stream, 4> streams_;  // one per vCPU that walks, for the common sizes
  uint32_t current_ = 0;
  uint64_t clock_ = 0;
};

}  // namespace ballast::engine
