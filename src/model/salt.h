// Salts: which VMs may share pages with each other. ESX: sched.mem.pshare.enable and .salt of a VM,
// Mem.ShareForceSalting of the host. Plain data and its rules; pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "model/vm_spec.h"

namespace ballast {

inline constexpr size_t kSaltBytesMax = 128;

// Printable ASCII without blanks, 1 to kSaltBytesMax of it; not "none", with which people say that
// there is no salt.
Status check_salt(std::string_view salt);

// The salt group of a VM that is powered on now. VMs share pages if and only if their groups are
// the same text.
//
//   force_salting  VM has a salt  has none, but a UUID  has neither
//   0              "all"          "all"                 "all"
//   1              "salt:SALT"    "salt:0"              "salt:0"
//   2              "salt:SALT"    "uuid:UUID"           "vm:RANDOM"
//
// and "" for a VM that is not to share. As in ESX, 1 takes a missing salt for the salt 0, so a VM
// whose salt is written 0 is in that group too. ESX uses the UUID as a salt; here the prefix keeps
// the kinds apart, so that a salt that reads like another VM's UUID does not open that VM's group:
// strangers meet only by a salt that both were given. Two VMs started with one UUID do meet, all
// zeros being none. The mode counts when a VM is powered on; VMs of different modes meet where the
// text is the same.
//
// `random`: of this VM alone, not empty.
std::string share_group(const VmSpec& spec, uint32_t force_salting, std::string_view random);

// For who tells people of a group.
enum class GroupKind : uint8_t { kNone, kAll, kSalt, kUuid, kOneVm };
GroupKind kind_of_group(std::string_view group);
std::string_view name_in_group(std::string_view group);  // what is behind the colon

}  // namespace ballast
