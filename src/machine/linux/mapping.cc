#include "machine/linux/mapping.h"

#include <sys/mman.h>

#include <utility>

namespace ballast::linux_machine {

Mapping::Mapping(Mapping&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

Mapping::~Mapping() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

Result<Mapping> Mapping::map(int fd, size_t bytes, const std::string& what) {
  Mapping mapping;
  if (bytes == 0) return mapping;
  void* address = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  if (address == MAP_FAILED) return system_error("map " + what);
  // Best effort: without these the mapping works all the same.
  (void)::madvise(address, bytes, MADV_DONTDUMP);
  (void)::madvise(address, bytes, MADV_DONTFORK);
  mapping.bytes_ = {static_cast<std::byte*>(address), bytes};
  return mapping;
}

}  // namespace ballast::linux_machine
