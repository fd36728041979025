// The "fast reset" entry point keeps the 16 KiB hash table between pages; it is in every liblz4 but
// declared only on request.
#define LZ4_STATIC_LINKING_ONLY
#include "engine/compress/codec.h"

#include <lz4.h>

#include <cstring>

#include "engine/compress/xxh.h"

namespace ballast::engine {

Codec::Codec() : state_(std::make_unique<std::byte[]>(static_cast<size_t>(LZ4_sizeofState()))) {
  LZ4_initStream(state_.get(), static_cast<size_t>(LZ4_sizeofState()));
}
Codec::~Codec() = default;

uint32_t Codec::compress(PageBytes page, std::span<std::byte, kCompressedBytesMax> out) {
  return static_cast<uint32_t>(LZ4_compress_fast_extState_fastReset(
      state_.get(), reinterpret_cast<const char*>(page.data()), reinterpret_cast<char*>(out.data()),
      static_cast<int>(kPageBytes), static_cast<int>(out.size()), 1));
}

bool Codec::decompress(std::span<const std::byte> compressed,
                       std::span<std::byte, kPageBytes> page) {
  const int length = LZ4_decompress_safe(
      reinterpret_cast<const char*>(compressed.data()), reinterpret_cast<char*>(page.data()),
      static_cast<int>(compressed.size()), static_cast<int>(kPageBytes));
  return length == static_cast<int>(kPageBytes);
}

bool is_zero(PageBytes page) {
  // A page equals itself shifted by 8 bytes only if all its words are equal.
  uint64_t first = 0;
  std::memcpy(&first, page.data(), sizeof(first));
  return first == 0 &&
         std::memcmp(page.data(), page.data() + sizeof(first), kPageBytes - sizeof(first)) == 0;
}

uint64_t page_checksum(PageBytes page, uint64_t key) {
  return XXH3_64bits_withSeed(page.data(), page.size(), key);
}

}  // namespace ballast::engine
