#include "engine/pmap/tables.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace ballast::engine {

namespace {

constexpr uint64_t kMagic =
    0x626c736470616d31;  // "blsdpam1"; the last digit is the layout's version

struct Header {
  uint64_t magic;
  uint64_t key;
  uint32_t pages;
  uint32_t slots;
  uint32_t checksum_pages;
  std::array<char, Tables::kGroupBytesMax + 1> group;
};

size_t page_align(size_t bytes) { return pages_ceil(bytes) * kPageBytes; }

}  // namespace

size_t Tables::bytes_for(uint32_t pages, uint32_t slots) {
  return kPageBytes + page_align(size_t{pages} * sizeof(uint64_t)) +
         page_align(size_t{slots} * sizeof(uint64_t));
}

Tables::Tables(std::span<std::byte> memory, uint32_t pages, uint32_t slots, uint64_t key)
    : pages_(pages),
      slots_(slots),
      key_(key),
      checksum_pages_(&reinterpret_cast<Header*>(memory.data())->checksum_pages),
      pmap_(reinterpret_cast<uint64_t*>(memory.data() + kPageBytes)),
      checksums_(reinterpret_cast<uint64_t*>(memory.data() + kPageBytes +
                                             page_align(size_t{pages} * sizeof(uint64_t)))) {
  BALLAST_CHECK_THAT(memory.size() >= bytes_for(pages, slots), "{} bytes for {} pages, {} slots",
                     memory.size(), pages, slots);
}

Tables Tables::format(std::span<std::byte> memory, uint32_t pages, uint32_t slots, uint64_t key,
                      std::string_view group) {
  BALLAST_CHECK(group.size() <= kGroupBytesMax);
  Tables tables(memory, pages, slots, key);
  auto& header = *reinterpret_cast<Header*>(memory.data());
  header = {kMagic, key, pages, slots, 0, {}};
  std::ranges::copy(group, header.group.begin());
  return tables;
}

std::string Tables::group(std::span<const std::byte> memory) {
  if (memory.size() < sizeof(Header)) return "";
  const auto& header = *reinterpret_cast<const Header*>(memory.data());
  if (header.magic != kMagic) return "";
  return {header.group.data(), ::strnlen(header.group.data(), kGroupBytesMax)};
}

Result<Tables> Tables::open(std::span<std::byte> memory, uint32_t pages, uint32_t slots) {
  if (memory.size() < bytes_for(pages, slots)) {
    return Error{fmt::format("tables of {} bytes are too small for {} pages and {} swap slots",
                             memory.size(), pages, slots)};
  }
  const auto header = *reinterpret_cast<const Header*>(memory.data());
  if (header.magic != kMagic) {
    return Error{
        fmt::format("tables carry the mark {:#x}, expected {:#x}: written by another version?",
                    header.magic, kMagic)};
  }
  if (header.pages != pages || header.slots != slots) {
    return Error{fmt::format("tables describe {} pages and {} swap slots, the VM has {} and {}",
                             header.pages, header.slots, pages, slots)};
  }
  if (header.checksum_pages > page_align(size_t{slots} * sizeof(uint64_t)) / kPageBytes) {
    return Error{fmt::format("tables claim {} pages of checksums for {} swap slots",
                             header.checksum_pages, slots)};
  }
  return Tables(memory, pages, slots, header.key);
}

}  // namespace ballast::engine
