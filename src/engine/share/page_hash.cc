#include "engine/share/page_hash.h"

#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/random.h"

namespace ballast::engine {

PageHasher::PageHasher(uint64_t seed) {
  Random random(seed);
  for (size_t at = 0; at < secret_.size(); at += sizeof(uint64_t)) {
    const uint64_t word = random.next();
    std::memcpy(secret_.data() + at, &word, sizeof(word));
  }
}

PageHash PageHasher::operator()(PageBytes page) const {
  const XXH128_hash_t hash =
      XXH3_128bits_withSecret(page.data(), page.size(), secret_.data(), secret_.size());
  return {hash.low64, hash.high64};
}

}  // namespace ballast::engine
