#include "machine/linux/machine_memory.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "machine/linux/unique_fd.h"

namespace ballast::linux_machine {

namespace {

// "MemTotal:       65843212 kB" anywhere at a line's begin; 0 when it is not there.
uint64_t bytes_after(std::string_view text, std::string_view label) {
  for (size_t at = text.find(label); at != std::string_view::npos; at = text.find(label, at + 1)) {
    if (at != 0 && text[at - 1] != '\n') continue;
    text.remove_prefix(at + label.size());
    text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
    uint64_t kilobytes = 0;
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), kilobytes);
    return problem == std::errc() && kilobytes < (uint64_t{1} << 53) ? kilobytes * 1024 : 0;
  }
  return 0;
}

}  // namespace

MachineMemory parse_machine_memory(std::string_view text) {
  return {bytes_after(text, "MemTotal:"), bytes_after(text, "MemAvailable:")};
}

MachineMemory machine_memory() {
  const UniqueFd file(open("/proc/meminfo", O_RDONLY | O_CLOEXEC));
  std::array<char, 4096> text;  // both stand among the first lines
  const ssize_t got = file.valid() ? read(file.get(), text.data(), text.size()) : -1;
  return got <= 0 ? MachineMemory{} : parse_machine_memory({text.data(), static_cast<size_t>(got)});
}

}  // namespace ballast::linux_machine
