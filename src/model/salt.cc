#include "model/salt.h"

#include <algorithm>

namespace ballast {

namespace {

constexpr std::string_view kOfSalt = "salt:";
constexpr std::string_view kOfUuid = "uuid:";
constexpr std::string_view kOfOneVm = "vm:";

// QEMU's for a machine without one is all zeros; machines that were given none are not the same.
bool is_uuid_of_its_own(std::string_view uuid) {
  return uuid.find_first_not_of("0-") != std::string_view::npos;
}

std::string group(std::string_view kind, std::string_view of) {
  return std::string(kind).append(of);
}

}  // namespace

Status check_salt(std::string_view salt) {
  const bool is_printable = std::ranges::all_of(salt, [](char c) { return c > ' ' && c <= '~'; });
  if (salt.empty() || salt.size() > kSaltBytesMax || !is_printable) {
    return Error{fmt::format(
        "a salt of {} bytes is refused: 1 to {} printable ASCII characters without blanks are "
        "needed",
        salt.size(), kSaltBytesMax)};
  }
  if (salt == "none") return Error{"the salt 'none' is refused: that word says that there is none"};
  return Done{};
}

std::string share_group(const VmSpec& spec, uint32_t force_salting, std::string_view random) {
  BALLAST_CHECK_THAT(force_salting <= 2, "Mem.ShareForceSalting is {}", force_salting);
  BALLAST_CHECK(!random.empty());
  if (!spec.share_enable) return "";
  if (force_salting == 0) return "all";
  if (!spec.salt.empty()) return group(kOfSalt, spec.salt);
  if (force_salting == 1) return group(kOfSalt, "0");
  return is_uuid_of_its_own(spec.uuid) ? group(kOfUuid, spec.uuid) : group(kOfOneVm, random);
}

GroupKind kind_of_group(std::string_view group) {
  if (group.empty()) return GroupKind::kNone;
  if (group.starts_with(kOfSalt)) return GroupKind::kSalt;
  if (group.starts_with(kOfUuid)) return GroupKind::kUuid;
  return group.starts_with(kOfOneVm) ? GroupKind::kOneVm : GroupKind::kAll;
}

std::string_view name_in_group(std::string_view group) {
  const size_t colon = group.find(':');
  return colon == std::string_view::npos ? "" : group.substr(colon + 1);
}

}  // namespace ballast
