#include "machine/linux/map_count.h"

#include <fcntl.h>

#include <algorithm>
#include <charconv>
#include <climits>
#include <cstring>

#include "machine/linux/unique_fd.h"

namespace ballast::linux_machine {

namespace {

Result<uint64_t> read_number(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return system_error(path);
  char text[32];
  const ssize_t got = ::read(file.get(), text, sizeof(text));
  if (got < 0) return system_error(path);
  uint64_t number = 0;
  const auto parsed = std::from_chars(text, text + got, number);
  if (parsed.ec != std::errc()) return Error{path + " holds no number", EINVAL};
  return number;
}

// 0 or errno.
int write_number(const std::string& path, uint64_t number) {
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file.valid()) return errno;
  const std::string text = std::to_string(number);
  return ::write(file.get(), text.data(), text.size()) < 0 ? errno : 0;
}

}  // namespace

Result<MapCount> raise_map_count(uint64_t wanted, const std::string& path) {
  wanted = std::min<uint64_t>(wanted, INT_MAX);  // the kernel keeps an int
  MapCount result;
  BALLAST_TRY(result.now, read_number(path));
  if (result.now >= wanted) return result;
  const int error = write_number(path, wanted);
  BALLAST_TRY(result.now, read_number(path));
  result.refused = result.now < wanted;
  if (result.refused) result.why = path + ": " + std::strerror(error != 0 ? error : EPERM);
  return result;
}

}  // namespace ballast::linux_machine
