#include "machine/linux/hand_off.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "model/salt.h"
#include "proto/agent_wire.h"

namespace ballast::linux_machine {

namespace {

using nlohmann::json;

// The end of the user half of the address space with five-level page tables.
constexpr uint64_t kAddressEnd = uint64_t{1} << 56;
constexpr size_t kNameLengthMax = 64;
constexpr size_t kUuidLengthMax = 64;
constexpr size_t kPathLengthMax = 107;  // sockaddr_un

template <typename... Arguments>
Error refuse(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
  return Error{"hand-off refused: " + fmt::format(format, std::forward<Arguments>(arguments)...),
               EINVAL};
}

Result<uint64_t> number(const json& object, const char* member, const std::string& where) {
  const auto found = object.find(member);
  if (found == object.end()) return refuse("{} lacks \"{}\"", where, member);
  if (!found->is_number_unsigned()) {
    return refuse("{}: \"{}\" is not an unsigned 64-bit number", where, member);
  }
  return found->get<uint64_t>();
}

Result<uint64_t> pages_in_bytes(const json& object, const char* member, const std::string& where) {
  BALLAST_TRY(const uint64_t bytes, number(object, member, where));
  if (bytes % kPageBytes != 0) {
    return refuse("{}: \"{}\" is {}, not a multiple of {}", where, member, bytes, kPageBytes);
  }
  return bytes;
}

Result<std::string> text_member(const json& object, const char* member, const std::string& where) {
  const auto found = object.find(member);
  if (found == object.end()) return refuse("{} lacks \"{}\"", where, member);
  if (!found->is_string()) return refuse("{}: \"{}\" is not a string", where, member);
  return found->get<std::string>();
}

bool is_letter_or_digit(char c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= kNameLengthMax && std::ranges::all_of(text, [](char c) {
    return is_letter_or_digit(c) || c == '.' || c == '_' || c == '-';
  });
}

bool is_uuid(std::string_view text) {
  return text.size() <= kUuidLengthMax &&
         std::ranges::all_of(text, [](char c) { return is_letter_or_digit(c) || c == '-'; });
}

// An absolute path that fits a socket address and cannot disturb a log line.
bool is_socket_path(std::string_view text) {
  return text.empty() || (text.front() == '/' && text.size() <= kPathLengthMax &&
                          std::ranges::all_of(text, [](char c) { return c > ' ' && c <= '~'; }));
}

Result<const json*> ballast_member(const json& element, size_t index) {
  const auto found = element.find("ballast");
  if (found == element.end() || !found->is_object()) {
    return refuse("region {} lacks the object \"ballast\"; is this QEMU's agent ours?", index);
  }
  return &*found;
}

// What the VM starts with; every member but the min may be missing.
Status parse_allocation(const json& ballast, const std::string& where, VmSpec& spec) {
  Allocation& allocation = spec.allocation;
  BALLAST_TRY(allocation.min_bytes, pages_in_bytes(ballast, "min_bytes", where));
  if (allocation.min_bytes > spec.configured_bytes) {
    return refuse("\"min_bytes\" {} exceeds \"memory_bytes\" {}", allocation.min_bytes,
                  spec.configured_bytes);
  }
  if (ballast.contains("limit_bytes")) {
    BALLAST_TRY(allocation.limit_bytes, pages_in_bytes(ballast, "limit_bytes", where));
  }
  if (ballast.contains("balloon_max_bytes")) {
    BALLAST_TRY(allocation.balloon_max_bytes, pages_in_bytes(ballast, "balloon_max_bytes", where));
  }
  if (ballast.contains("shares")) {
    BALLAST_TRY(const std::string text, text_member(ballast, "shares", where));
    const auto shares = parse_shares(text);
    // Its own words would bring the agent's text into our log.
    if (!shares) {
      return refuse("\"shares\" is neither low, normal, high nor a number from 1 to {}",
                    kSharesMax);
    }
    allocation.shares = *shares;
  }
  const Status good = check_allocation("VM " + spec.name, allocation, spec.configured_bytes);
  return good ? good : refuse("{}", good.error().message);
}

// With whom it may share pages; both members may be missing.
Status parse_sharing(const json& ballast, const std::string& where, VmSpec& spec) {
  if (const auto found = ballast.find("pshare"); found != ballast.end()) {
    if (!found->is_boolean()) return refuse("{}: \"pshare\" is neither true nor false", where);
    spec.share_enable = found->get<bool>();
  }
  if (!ballast.contains("salt")) return Done{};
  BALLAST_TRY(spec.salt, text_member(ballast, "salt", where));
  const Status good = spec.salt.empty() ? Status(Done{}) : check_salt(spec.salt);
  return good ? good : refuse("\"salt\": {}", good.error().message);
}

Status parse_identity(const json& ballast, HandOff& hand_off) {
  const std::string where = "\"ballast\"";
  BALLAST_TRY(const uint64_t version, number(ballast, "version", where));
  if (version != kAgentProtocolVersion) {
    return refuse(
        "the agent speaks protocol version {} and this ballastd {}; use the libballast-agent.so "
        "that came with it",
        version, static_cast<int>(kAgentProtocolVersion));
  }
  VmSpec& spec = hand_off.spec;
  BALLAST_TRY(spec.name, text_member(ballast, "name", where));
  if (!is_name(spec.name)) {
    return refuse("a VM's name is 1 to {} of A-Z a-z 0-9 . _ -", kNameLengthMax);
  }
  BALLAST_TRY(spec.uuid, text_member(ballast, "uuid", where));
  if (!is_uuid(spec.uuid)) return refuse("\"uuid\" is not a UUID");
  BALLAST_TRY(hand_off.qmp_path, text_member(ballast, "qmp", where));
  if (!is_socket_path(hand_off.qmp_path)) {
    return refuse("\"qmp\" is not an absolute path of at most {} characters", kPathLengthMax);
  }
  BALLAST_TRY(spec.configured_bytes, pages_in_bytes(ballast, "memory_bytes", where));
  if (spec.configured_bytes == 0) return refuse("\"memory_bytes\" is 0");
  if (pages_floor(spec.configured_bytes) > UINT32_MAX) {
    return refuse("\"memory_bytes\" is {}; 16 TiB less one page is the most",
                  spec.configured_bytes);
  }
  BALLAST_TRY_STATUS(parse_sharing(ballast, where, spec));
  return parse_allocation(ballast, where, spec);
}

Result<HandOffRegion> parse_region(const json& element, const json& ballast, size_t index) {
  const std::string where = fmt::format("region {}", index);
  HandOffRegion region;
  BALLAST_TRY(region.address, pages_in_bytes(element, "base_host_virt_addr", where));
  BALLAST_TRY(region.bytes, pages_in_bytes(element, "size", where));
  BALLAST_TRY(region.file_offset, pages_in_bytes(element, "offset", where));
  BALLAST_TRY(const uint64_t page_bytes, number(element, "page_size", where));
  if (page_bytes != kPageBytes) {
    return refuse("{}: page size {}; only {} is managed (no hugetlb backing)", where, page_bytes,
                  kPageBytes);
  }
  if (element.contains("page_size_kib")) {
    BALLAST_TRY(const uint64_t same, number(element, "page_size_kib", where));
    if (same != page_bytes)
      return refuse("{}: \"page_size_kib\" differs from \"page_size\"", where);
  }
  if (region.bytes == 0) return refuse("{} is empty", where);
  if (region.address == 0 || region.address >= kAddressEnd ||
      region.bytes > kAddressEnd - region.address) {
    return refuse("{}: {:#x} + {} bytes is no user address range", where, region.address,
                  region.bytes);
  }
  if (region.file_offset > INT64_MAX - region.bytes) {
    return refuse("{}: offset {} + {} bytes is no file range", where, region.file_offset,
                  region.bytes);
  }
  BALLAST_TRY(const uint64_t descriptor, number(ballast, "ram_fd", where));
  if (descriptor == 0 || descriptor >= kAgentDescriptorsMax) {
    return refuse("{}: \"ram_fd\" is {}; RAM files are 1 to {}", where, descriptor,
                  kAgentDescriptorsMax - 1);
  }
  region.ram_file = static_cast<uint32_t>(descriptor) - 1;
  return region;
}

bool overlap(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes) {
  return a < b + b_bytes && b < a + a_bytes;
}

Status check_overlap(const std::vector<HandOffRegion>& regions) {
  for (size_t i = 0; i < regions.size(); ++i) {
    const HandOffRegion& a = regions[i];
    for (size_t j = 0; j < i; ++j) {
      const HandOffRegion& b = regions[j];
      if (overlap(a.address, a.bytes, b.address, b.bytes)) {
        return refuse("regions {} and {} overlap in the address space", j, i);
      }
      if (a.ram_file == b.ram_file && overlap(a.file_offset, a.bytes, b.file_offset, b.bytes)) {
        return refuse("regions {} and {} overlap in their RAM file", j, i);
      }
    }
  }
  return Done{};
}

// Where each descriptor is: [0] userfaultfd, RAM files, discard bitmap, kept ones.
Status place_descriptors(const json& ballast, size_t descriptors, HandOff& hand_off) {
  std::vector<bool> used(kAgentDescriptorsMax);
  for (const HandOffRegion& region : hand_off.regions) {
    used[region.ram_file] = true;
    hand_off.ram_files = std::max(hand_off.ram_files, region.ram_file + 1);
  }
  for (uint32_t i = 0; i < hand_off.ram_files; ++i) {
    if (!used[i]) return refuse("RAM file {} belongs to no region", i + 1);
  }
  hand_off.discards_at = hand_off.ram_files + 1;
  const auto kept = ballast.find("kept");
  if (kept == ballast.end() || !kept->is_array() || kept->size() > 4) {
    return refuse("\"kept\" is not an array of at most 4 names");
  }
  uint32_t at = hand_off.discards_at + 1;
  for (const json& name : *kept) {
    const std::string text = name.is_string() ? name.get<std::string>() : "";
    uint32_t* place = text == "tables"  ? &hand_off.tables_at
                      : text == "arena" ? &hand_off.arena_at
                      : text == "swap"  ? &hand_off.swap_at
                      : text == "pool"  ? &hand_off.pool_at
                                        : nullptr;
    if (place == nullptr)
      return refuse("\"kept\" names something else than tables, arena, swap, pool");
    if (*place != 0) return refuse("\"kept\" names \"{}\" twice", text);
    *place = at++;
  }
  hand_off.has_kept = hand_off.tables_at != 0 && hand_off.arena_at != 0 && hand_off.swap_at != 0;
  hand_off.has_pool = hand_off.pool_at != 0;
  if (!kept->empty() && !hand_off.has_kept) {
    return refuse("\"kept\" must name tables, arena and swap, or nothing");
  }
  if (at != descriptors) {
    return refuse("{} descriptors came with the message and its text names {}", descriptors, at);
  }
  return Done{};
}

}  // namespace

bool HandOff::is_complete() const {
  uint64_t bytes = 0;
  for (const HandOffRegion& region : regions) bytes += region.bytes;
  return bytes == spec.configured_bytes;
}

Result<HandOff> parse_hand_off(std::string_view text, size_t descriptors) {
  if (text.size() > kAgentHandOffBytesMax) {
    return refuse("the message is longer than {} bytes", static_cast<int>(kAgentHandOffBytesMax));
  }
  const json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) {
    return refuse("{} bytes that are not one whole JSON text", text.size());
  }
  if (!document.is_array() || document.empty()) return refuse("not an array of regions");
  if (document.size() > kAgentRegionsMax) {
    return refuse("{} regions; {} is the most", document.size(),
                  static_cast<int>(kAgentRegionsMax));
  }
  HandOff hand_off;
  uint64_t total_bytes = 0;
  for (size_t i = 0; i < document.size(); ++i) {
    const json& element = document[i];
    if (!element.is_object()) return refuse("region {} is not an object", i);
    BALLAST_TRY(const json* ballast, ballast_member(element, i));
    if (i == 0) BALLAST_TRY_STATUS(parse_identity(*ballast, hand_off));
    BALLAST_TRY(const HandOffRegion region, parse_region(element, *ballast, i));
    hand_off.regions.push_back(region);
    total_bytes += region.bytes;  // at most 16 × 2^56: no overflow
  }
  if (total_bytes > hand_off.spec.configured_bytes) {
    return refuse("the regions have {} bytes and \"memory_bytes\" is {}", total_bytes,
                  hand_off.spec.configured_bytes);
  }
  BALLAST_TRY_STATUS(check_overlap(hand_off.regions));
  BALLAST_TRY_STATUS(place_descriptors(document[0]["ballast"], descriptors, hand_off));
  return hand_off;
}

}  // namespace ballast::linux_machine
