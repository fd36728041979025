// A libvirt domain's XML, as far as it concerns Ballast:
//
//   <domain>
//     <uuid>…</uuid>
//     <metadata>
//       <ballast:memory xmlns:ballast="https://ballast.dev/domain/1.0"
//                       min="1G" limit="3G" shares="high" balloon-max="2G" salt="web" pshare="on"/>
//     </metadata>
//     <devices><emulator>/usr/bin/ballast-qemu</emulator></devices>
//   </domain>
//
// The XML comes from libvirt, what is in the element from whoever may define domains: everything is
// checked. Pure; any thread.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace ballast::libvirt {

inline constexpr const char* kNamespace = "https://ballast.dev/domain/1.0";

struct Domain {
  bool managed = false;  // its emulator is ballast-qemu
  std::string uuid;
  // For ballast-qemu, under the names of its environment; only what the element gives.
  std::vector<std::pair<std::string, std::string>> parameters;
};

// Refuses XML that is none, and parameters that are wrong, by name.
Result<Domain> parse_domain(std::string_view xml);

// What ballast-qemu reads: a line "NAME=VALUE" for each parameter.
std::string format_parameters(const Domain& domain);

}  // namespace ballast::libvirt
