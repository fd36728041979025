// What --json prints: the reports under their C++ names plus what the tables derive from them.
// Pure.
//
//   ls      {"host":{HostReport without vms},"vms":[VmReport + rates…]}
//   show    VmReport + rates
//   host    HostReport with vms + rates
//   why     {"vm":VmReport,"share_percent":N,"host":{HostReport without vms},"events":[Event…]}
//   rates   "faults_per_s", "swap_ins_per_s", …: numbers, null when unknown; and "untouched_bytes",
//           "share_saving_bytes"; the host's share_groups have "saving_bytes"
#pragma once

#include <nlohmann/json.hpp>
#include <span>

#include "cli/rates.h"

namespace ballast::cli {

nlohmann::json vm_to_json(const VmReport& vm, const Observation& observation);
nlohmann::json host_to_json(const Observation& observation);
nlohmann::json ls_to_json(const Observation& observation);
nlohmann::json why_to_json(const VmReport& vm, const HostReport& host,
                           std::span<const Event> events);

}  // namespace ballast::cli
