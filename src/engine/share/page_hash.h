// PageHash: 128 bits of a page's content under a group's secret key (XXH3).
//
// The key is random per salt group and never leaves the daemon: no guest can make pages that meet,
// nor learn from a meeting what another group holds. A match is a reason to compare, never to
// share.
#pragma once

#include <array>
#include <cstdint>

#include "engine/compress/codec.h"

namespace ballast::engine {

struct PageHash {
  uint64_t low = 0;
  uint64_t high = 0;
  bool operator==(const PageHash&) const = default;
};

class PageHasher {
 public:
  // Fewer bits than 128 make contents meet that are not equal: for tests of what follows.
  explicit PageHasher(uint64_t seed, uint32_t bits = 128);
  PageHash operator()(PageBytes page) const;

 private:
  std::array<std::byte, 192> secret_;
  PageHash mask_;
};

}  // namespace ballast::engine
