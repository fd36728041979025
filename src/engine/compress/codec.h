// Codec: compresses one page, or says that it is not worth keeping compressed. LZ4 block format.
//
// Stateless but for a scratch area; one per worker. A page is worth keeping at ≤ 50 % (ESX 4.1: 2
// KB).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/units.h"

namespace ballast::engine {

using PageBytes = std::span<const std::byte, kPageBytes>;
inline constexpr size_t kCompressedBytesMax = kPageBytes / 2;

class Codec {
 public:
  Codec();
  ~Codec();

  // Compressed length in `out`, 0 if it would exceed 2 KiB.
  uint32_t compress(PageBytes page, std::span<std::byte, kCompressedBytesMax> out);
  // False if the bytes are not a whole page of valid LZ4; `page` is then garbage and must not be
  // used.
  [[nodiscard]] static bool decompress(std::span<const std::byte> compressed,
                                       std::span<std::byte, kPageBytes> page);

 private:
  std::unique_ptr<std::byte[]> state_;
};

bool is_zero(PageBytes page);

// Keyed 64-bit checksum of a page (XXH3). The key is secret to the daemon, so that no guest can
// craft two pages with one checksum: equal checksums are taken as "the copy on disk is still
// right".
uint64_t page_checksum(PageBytes page, uint64_t key);

}  // namespace ballast::engine
