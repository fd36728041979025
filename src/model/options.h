// Options: host options under the names that ESX operators know, with ESX's defaults unless the
// comment says why not.
//
// Set in the configuration file ([options] "Mem.MemZipEnable" = 1) and by `ballast options`. One
// table (options.cc) knows every option's name, range, meaning and when a change takes effect.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace ballast {

enum class VictimChoice : uint8_t {
  kRandom,        // ESX's: any page, so that no guest policy can resonate with ours
  kSecondChance,  // skips what was touched since the last look (access sampling)
};

// Free-memory thresholds between the host states. docs/adr/0011.
enum class ThresholdSet : uint8_t {
  kEsxi6,   // 400/100/64/32/16 % of the sliding minFree
  kOsdi02,  // 6/4/2/1 % of the memory
};

enum class TaxType : uint8_t {
  kFlat,      // every idle page costs the same: the 2002 paper
  kVariable,  // the rate grows with the idle part of the VM: ESX since resource pools, and default
};

struct Options {
  // Compression.
  bool zip_enable = true;         // Mem.MemZipEnable
  uint32_t zip_max_percent = 10;  // Mem.MemZipMaxPct: compression cache, % of configured size
  // Host states.
  uint32_t min_free_percent = 0;                   // Mem.MemMinFreePct: 0 = sliding scale
  ThresholdSet thresholds = ThresholdSet::kEsxi6;  // Ballast.Thresholds: esxi6 | osdi02
  // Targets.
  uint32_t idle_tax_percent = 75;              // Mem.IdleTax
  TaxType idle_tax_type = TaxType::kVariable;  // Mem.IdleTaxType: 0 flat, 1 variable
  uint32_t balance_period_s = 15;              // Mem.BalancePeriod
  // Sampling of active memory.
  uint32_t sample_period_s = 60;           // Mem.SamplePeriod: 0 = off
  uint32_t sample_active_min_percent = 1;  // Mem.SampleActivePctMin
  uint32_t sample_faults =
      100;  // Ballast.SampleFaults: what a period may cost the guest (ESX: 100)
  // Balloon.
  uint32_t ctl_max_percent = 65;    // Mem.CtlMaxPercent: largest balloon, % of configured size
  bool hard_stops_balloon = false;  // Ballast.HardStopsBalloon: freeze balloons in the hard state
  // Page sharing. ESX scans a VM in 60 minutes, at most 1024 pages/s, 4 MB/s per GHz:
  // docs/adr/0013.
  uint32_t share_force_salting = 2;  // Mem.ShareForceSalting: 0 | 1 | 2
  uint32_t share_scan_minutes = 10;  // Mem.ShareScanTime: for one pass over a VM; 0 = off
  uint32_t share_scan_ghz = 16;      // Mem.ShareScanGHz: MB/s per GHz, of the host; 0 = off
  uint32_t share_rate_max = 8192;    // Mem.ShareRateMax: pages/s of one VM; 0 = off
  // Swap.
  bool bring_back = true;  // Ballast.BringBack: swapped pages return when memory is free (ESX: no)
  VictimChoice victims = VictimChoice::kSecondChance;  // Ballast.Victims: random | second-chance
  // Ballast.FaultSpinUs: how long a worker stays on the CPU for the next fault, 0 = never (the
  // default). Measured: a worker that sleeps in poll shares the CPU with the vCPU that sleeps in
  // its fault, 7–9 µs a fault; a spinning one keeps that CPU from the guest (58 µs), or answers
  // from another CPU (16 µs). docs/adr/0009.
  uint32_t spin_us = 0;
  bool operator==(const Options&) const = default;
};

// What `ballast options` shows of one option.
struct OptionInfo {
  std::string_view name;
  std::string_view allowed;  // "0 to 99", "random, second-chance"
  std::string_view meaning;  // one line
  bool at_once;              // a change takes effect at once; else for VMs that start from then on
};
std::span<const OptionInfo> all_options();
// Knows Mem.MinFreePct, the other name of Mem.MemMinFreePct, too. Refuses unknown names.
Result<const OptionInfo*> find_option(std::string_view name);

// Sets one option by name. Refuses unknown names and values out of range, saying what is allowed.
Status set_option(Options& options, std::string_view name, std::string_view value);
// The value as set_option() takes it. Refuses unknown names.
Result<std::string> get_option(const Options& options, std::string_view name);

// One option with its value, for whoever is not the daemon.
struct OptionReport {
  std::string name;
  std::string value;
  std::string default_value;
  std::string allowed;
  std::string meaning;
  bool at_once = true;
};
OptionReport report_option(const Options& options, const OptionInfo& info);

}  // namespace ballast
