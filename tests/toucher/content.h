// Content: what the toucher's pages hold: pages of a file (a dump of a real guest's memory), or
// made up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace ballast::toucher {

inline constexpr size_t kPageBytes = 4096;
// What the daemon keeps compressed: pages that LZ4 brings to at most half.
inline constexpr int kCompressedBytesMax = 2048;

enum class Only { kAll, kCompressible, kIncompressible };

class Content {
 public:
  // Zero pages of the file are left out. Without a file: half compressible pages, half random ones,
  // cycled from a few MiB. Errors end the process.
  static Content make(const std::string& file, Only only, size_t pages_wanted);
  size_t pages() const { return pages_.size(); }
  const std::byte* page(size_t index) const { return pages_[index % pages_.size()]; }

 private:
  std::vector<std::byte> made_;
  std::vector<const std::byte*> pages_;
};

// LZ4_compress_default over `count` pages; dst is `capacity` bytes.
struct CompressionSpeed {
  double seconds = 0;
  size_t fitted = 0;
  size_t bytes = 0;
};
CompressionSpeed measure_lz4(const Content& content, size_t count, int capacity);

[[noreturn]] __attribute__((format(printf, 1, 2))) void die(const char* format, ...);

}  // namespace ballast::toucher
