#include "engine/share/page_hash.h"

#include <algorithm>
#include <cstring>

#include "base/random.h"
#include "engine/compress/xxh.h"

namespace ballast::engine {

namespace {

uint64_t lowest(uint32_t bits) { return bits >= 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1; }

}  // namespace

PageHasher::PageHasher(uint64_t seed, uint32_t bits)
    : mask_{lowest(bits), lowest(bits - std::min(bits, 64u))} {
  Random random(seed);
  for (size_t at = 0; at < secret_.size(); at += sizeof(uint64_t)) {
    const uint64_t word = random.next();
    std::memcpy(secret_.data() + at, &word, sizeof(word));
  }
}

PageHash PageHasher::operator()(PageBytes page) const {
  const XXH128_hash_t hash =
      XXH3_128bits_withSecret(page.data(), page.size(), secret_.data(), secret_.size());
  return {hash.low64 & mask_.low, hash.high64 & mask_.high};
}

}  // namespace ballast::engine
