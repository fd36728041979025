// Mapping: a shared, writable mapping of a whole memfd in the daemon's own address space, unmapped
// when dropped. Left out of core dumps: it holds guests' bytes.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "base/result.h"

namespace ballast::linux_machine {

class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  // `what` names the memory in the error.
  static Result<Mapping> map(int fd, size_t bytes, const std::string& what);
  std::span<std::byte> bytes() const { return bytes_; }

 private:
  std::span<std::byte> bytes_;
};

}  // namespace ballast::linux_machine
