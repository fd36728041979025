#include "machine/linux/attach.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <linux/userfaultfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include <cinttypes>
#include <fstream>
#include <sstream>

#include "machine/linux/kept_fd.h"

namespace ballast::linux_machine {

namespace {

template <typename... Arguments>
Error refuse(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
  return Error{"hand-off refused: " + fmt::format(format, std::forward<Arguments>(arguments)...),
               EINVAL};
}

std::string read_text(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string link_of(int fd) {
  std::string text(256, '\0');
  const ssize_t length =
      ::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), text.data(), text.size());
  text.resize(length > 0 ? static_cast<size_t>(length) : 0);
  return text;
}

// The features that were enabled, as fdinfo shows them: "API:\taa:FEATURES:IOCTLS".
bool uffd_features(int fd, uint64_t& features) {
  const std::string info = read_text("/proc/self/fdinfo/" + std::to_string(fd));
  const size_t at = info.find("API:");
  return at != std::string::npos &&
         std::sscanf(info.c_str() + at, "API: %*x:%" SCNx64, &features) == 1;
}

Status check_uffd(int fd) {
  if (link_of(fd) != "anon_inode:[userfaultfd]") {
    return refuse("descriptor 0 is no userfaultfd");
  }
  uint64_t features = 0;
  if (!uffd_features(fd, features)) return refuse("descriptor 0: its features cannot be read");
  constexpr uint64_t kNeeded =
      UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
  // Each of these makes some call of QEMU wait until we read an event, or turns faults into
  // signals.
  constexpr uint64_t kForbidden = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP |
                                  UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP |
                                  UFFD_FEATURE_SIGBUS;
  if ((features & kNeeded) != kNeeded || (features & kForbidden) != 0) {
    return refuse("the userfaultfd has features {:#x}; needed {:#x}, forbidden {:#x}", features,
                  kNeeded, kForbidden);
  }
  return Done{};
}

Status check_memory_file(int fd, const std::string& what, struct stat& info) {
  struct statfs system {};
  if (::fstat(fd, &info) != 0 || ::fstatfs(fd, &system) != 0) return system_error(what);
  if (system.f_type == HUGETLBFS_MAGIC) {
    return refuse("{} is on hugetlbfs; use memory-backend-memfd without hugetlb=on", what);
  }
  if (!S_ISREG(info.st_mode) || system.f_type != TMPFS_MAGIC) {
    return refuse("{} is neither a memfd nor on tmpfs; use memory-backend-memfd,share=on", what);
  }
  if ((::fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDWR) return refuse("{} is not read-write", what);
  return Done{};
}

FileId id_of(const struct stat& info) { return {info.st_dev, info.st_ino}; }

Result<std::vector<FileId>> check_ram_files(const HandOff& hand_off,
                                            std::span<const UniqueFd> files) {
  std::vector<FileId> ids;
  for (size_t i = 0; i < files.size(); ++i) {
    const std::string what = fmt::format("RAM file {}", i + 1);
    // Best effort, for QEMU's memfds (seal=on is its default). A file that can still be truncated
    // is harmless to the daemon, which never maps it: reads come back short and the VM is detached.
    (void)::fcntl(files[i].get(), F_ADD_SEALS, F_SEAL_SHRINK);
    struct stat info {};
    BALLAST_TRY_STATUS(check_memory_file(files[i].get(), what, info));
    const auto size = static_cast<uint64_t>(info.st_size);
    for (const HandOffRegion& region : hand_off.regions) {
      if (region.ram_file == i && region.file_offset + region.bytes > size) {
        return refuse("{} has {} bytes and a region ends at {}", what, size,
                      region.file_offset + region.bytes);
      }
    }
    for (const FileId& other : ids) {
      // Two numbers for one frame would let one page's eviction throw another's bytes away.
      if (other == id_of(info)) return refuse("{} was handed over twice", what);
    }
    ids.push_back(id_of(info));
  }
  return ids;
}

Status check_discards(const HandOff& hand_off, int fd, const std::vector<FileId>& ram) {
  const std::string what = "discard bitmap";
  struct stat info {};
  BALLAST_TRY_STATUS(check_memory_file(fd, what, info));
  BALLAST_TRY_STATUS(seal_size(fd, what));  // before its size is judged
  if (::fstat(fd, &info) != 0) return system_error(what);
  const uint64_t words = (pages_floor(hand_off.spec.configured_bytes) + 63) / 64;
  const uint64_t needed = kDiscardHeaderBytes + words * sizeof(uint64_t);
  if (static_cast<uint64_t>(info.st_size) < needed) {
    return refuse("the {} has {} bytes and needs {}", what, info.st_size, needed);
  }
  for (const FileId& other : ram) {
    if (other == id_of(info)) return refuse("the {} is a RAM file", what);
  }
  return Done{};
}

// The share pool that came back, if one did. What it holds is judged when it is adopted.
Result<std::optional<FileId>> identify_pool(const HandOff& hand_off,
                                            std::span<const UniqueFd> descriptors,
                                            const std::vector<FileId>& ram) {
  if (!hand_off.has_pool) return std::optional<FileId>();
  struct stat info {};
  if (::fstat(descriptors[hand_off.pool_at].get(), &info) != 0) return system_error("share pool");
  for (const FileId& other : ram) {
    if (other == id_of(info)) return refuse("the share pool is a RAM file");
  }
  return std::optional(id_of(info));
}

Status check_mappings(const HandOff& hand_off, const std::vector<FileId>& files,
                      const std::optional<FileId>& pool, const VmProcess& process) {
  const std::string maps = read_text(fmt::format("/proc/{}/maps", process.pid()));
  // Alive after the read: the text is this process's, not that of a later one with the same number.
  if (maps.empty() || !process.is_alive()) return refuse("process {} is gone", process.pid());
  for (size_t i = 0; i < hand_off.regions.size(); ++i) {
    const HandOffRegion& region = hand_off.regions[i];
    const FileId& file = files[region.ram_file];
    if (!maps_shared(maps, region, file, pool)) {
      return refuse(
          "process {} does not map RAM file {} shared at {:#x} (region {}, {} bytes, offset {})",
          process.pid(), region.ram_file + 1, region.address, i, region.bytes, region.file_offset);
    }
  }
  return Done{};
}

}  // namespace

bool maps_shared(const std::string& maps, const HandOffRegion& region, const FileId& file,
                 const std::optional<FileId>& pool) {
  uint64_t at = region.address;
  const uint64_t end = region.address + region.bytes;
  std::istringstream lines(maps);
  for (std::string line; at < end && std::getline(lines, line);) {
    uint64_t first = 0;
    uint64_t last = 0;
    uint64_t offset = 0;
    uint64_t line_inode = 0;
    unsigned major_number = 0;
    unsigned minor_number = 0;
    char flags[5] = {};
    if (std::sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64, &first,
                    &last, flags, &offset, &major_number, &minor_number, &line_inode) != 7) {
      continue;
    }
    if (last <= at) continue;
    if (first > at || flags[0] != 'r' || flags[1] != 'w') return false;
    const auto is_of = [&](const FileId& id) {
      return line_inode == id.inode && major_number == major(id.device) &&
             minor_number == minor(id.device);
    };
    const bool at_home = flags[3] == 's' && is_of(file) &&
                         offset + (at - first) == region.file_offset + (at - region.address);
    const bool away = flags[3] == 'p' && pool && is_of(*pool);
    if (!at_home && !away) return false;
    at = last;
  }
  return at >= end;
}

Result<Attachment> attach(HandOffMessage message, const VmProcess& process) {
  Attachment result;
  std::vector<UniqueFd>& descriptors = message.descriptors;
  BALLAST_TRY(result.hand_off, parse_hand_off(message.text, descriptors.size()));
  const HandOff& hand_off = result.hand_off;
  BALLAST_TRY_STATUS(check_uffd(descriptors[0].get()));
  const auto ram = std::span(descriptors).subspan(1, hand_off.ram_files);
  BALLAST_TRY(const std::vector<FileId> files, check_ram_files(hand_off, ram));
  BALLAST_TRY_STATUS(check_discards(hand_off, descriptors[hand_off.discards_at].get(), files));
  BALLAST_TRY(const std::optional<FileId> pool, identify_pool(hand_off, descriptors, files));
  BALLAST_TRY_STATUS(check_mappings(hand_off, files, pool, process));
  result.ram_ids = files;
  result.uffd = std::move(descriptors[0]);
  for (UniqueFd& file : ram) result.ram_files.push_back(std::move(file));
  result.discards = std::move(descriptors[hand_off.discards_at]);
  if (hand_off.has_kept) {
    result.tables = std::move(descriptors[hand_off.tables_at]);
    result.arena = std::move(descriptors[hand_off.arena_at]);
    result.swap = std::move(descriptors[hand_off.swap_at]);
  }
  if (hand_off.has_pool) result.pool = std::move(descriptors[hand_off.pool_at]);
  return result;
}

UffdMemory::Parts Attachment::memory_parts(pid_t pid, UffdMemory::Zap zap,
                                           RemapQueue::Senders remap) {
  UffdMemory::Parts parts;
  parts.uffd = std::move(uffd);
  parts.pages = static_cast<uint32_t>(pages_floor(hand_off.spec.configured_bytes));
  for (const HandOffRegion& region : hand_off.regions) {
    parts.regions.push_back(
        {region.address, region.bytes, ram_files[region.ram_file].get(), region.file_offset});
  }
  parts.ram_files = std::move(ram_files);
  parts.discards = std::move(discards);
  parts.pagemap.reset(::open(fmt::format("/proc/{}/pagemap", pid).c_str(), O_RDONLY | O_CLOEXEC));
  parts.zap = std::move(zap);
  parts.remap = std::move(remap);
  return parts;
}

Result<size_t> check_continuation(const HandOff& before, const HandOff& now) {
  if (now.spec.name != before.spec.name ||
      now.spec.configured_bytes != before.spec.configured_bytes ||
      now.spec.allocation.min_bytes != before.spec.allocation.min_bytes ||
      now.spec.share_enable != before.spec.share_enable || now.spec.salt != before.spec.salt) {
    return refuse("a later hand-off of VM {} changes who it is", before.spec.name);
  }
  if (now.regions.size() < before.regions.size()) {
    return refuse("a later hand-off of VM {} lacks regions", before.spec.name);
  }
  for (size_t i = 0; i < before.regions.size(); ++i) {
    const HandOffRegion& a = before.regions[i];
    const HandOffRegion& b = now.regions[i];
    if (a.address != b.address || a.bytes != b.bytes || a.file_offset != b.file_offset) {
      return refuse("a later hand-off of VM {} moves region {}", before.spec.name, i);
    }
  }
  return now.regions.size() - before.regions.size();
}

}  // namespace ballast::linux_machine
