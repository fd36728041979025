#include "content.h"

#include <fcntl.h>
#include <lz4.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace ballast::toucher {

namespace {

const char* chars(const std::byte* bytes) { return reinterpret_cast<const char*>(bytes); }

int compressed_size(const std::byte* page, int capacity) {
  std::array<char, LZ4_COMPRESSBOUND(kPageBytes)> into;
  return LZ4_compress_default(chars(page), into.data(), static_cast<int>(kPageBytes), capacity);
}

bool wanted(const std::byte* page, Only only) {
  if (page[0] == std::byte{0} && memcmp(page, page + 1, kPageBytes - 1) == 0) return false;
  if (only == Only::kAll) return true;
  return (compressed_size(page, kCompressedBytesMax) > 0) == (only == Only::kCompressible);
}

// Even pages: about a third of their size under LZ4; odd pages: noise.
void make_page(std::byte* page, uint64_t number) {
  uint64_t state = number * UINT64_C(0x9e3779b97f4a7c15) | 1;
  std::array<uint64_t, kPageBytes / 8> words;
  for (size_t i = 0; i < words.size(); ++i) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    words[i] = number % 2 == 0 && i % 4 != 0 ? number : state;
  }
  memcpy(page, words.data(), kPageBytes);
}

double thread_cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

}  // namespace

void die(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("ballast-toucher: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  exit(2);
}

Content Content::make(const std::string& file, Only only, size_t pages_wanted) {
  Content content;
  const std::byte* from = nullptr;
  size_t count = 0;
  if (file.empty()) {
    count = std::min<size_t>(pages_wanted * 2, 32768);
    content.made_.resize(count * kPageBytes);
    for (size_t i = 0; i < count; ++i) make_page(&content.made_[i * kPageBytes], i);
    from = content.made_.data();
  } else {
    const int fd = open(file.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat status {};
    if (fd < 0 || fstat(fd, &status) != 0) die("%s: %s", file.c_str(), strerror(errno));
    count = static_cast<size_t>(status.st_size) / kPageBytes;
    void* mapped =
        count == 0 ? MAP_FAILED : mmap(nullptr, count * kPageBytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (mapped == MAP_FAILED) die("%s cannot be mapped", file.c_str());
    close(fd);
    from = static_cast<const std::byte*>(mapped);
  }
  for (size_t i = 0; i < count && content.pages_.size() < pages_wanted; ++i) {
    if (wanted(from + i * kPageBytes, only)) content.pages_.push_back(from + i * kPageBytes);
  }
  if (content.pages_.empty()) die("%s has no page of the wanted kind", file.c_str());
  return content;
}

CompressionSpeed measure_lz4(const Content& content, size_t count, int capacity) {
  CompressionSpeed speed;
  const double began = thread_cpu_seconds();
  for (size_t i = 0; i < count; ++i) {
    const int size = compressed_size(content.page(i), capacity);
    speed.fitted += size > 0;
    speed.bytes += static_cast<size_t>(std::max(size, 0));
  }
  speed.seconds = thread_cpu_seconds() - began;
  return speed;
}

}  // namespace ballast::toucher
