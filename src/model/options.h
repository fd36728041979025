// Options: host options under the names that ESX operators know, with ESX's defaults unless the
// comment says why not.
//
// Set in the configuration file ([options] "Mem.MemZipEnable" = 1); validated as a whole before
// use.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace ballast {

enum class VictimChoice : uint8_t {
  kRandom,        // ESX's: any page, so that no guest policy can resonate with ours
  kSecondChance,  // skips what was touched since the last look (access sampling)
};

struct Options {
  bool zip_enable = true;         // Mem.MemZipEnable
  uint32_t zip_max_percent = 10;  // Mem.MemZipMaxPct: compression cache, % of configured size
  uint32_t min_free_percent = 0;  // Mem.MemMinFreePct: 0 = sliding scale
  VictimChoice victims = VictimChoice::kSecondChance;  // Ballast.Victims: random | second-chance
  // Ballast.FaultSpinUs: how long a worker stays on the CPU for the next fault, 0 = never (the
  // default). Measured: a worker that sleeps in poll shares the CPU with the vCPU that sleeps in
  // its fault, 7–9 µs a fault; a spinning one keeps that CPU from the guest (58 µs), or answers
  // from another CPU (16 µs). docs/adr/0009.
  uint32_t spin_us = 0;
};

// Sets one option by name. Refuses unknown names and values out of range, saying what is allowed.
Status set_option(Options& options, std::string_view name, std::string_view value);

}  // namespace ballast
