// Counters at two moments make rates. Pure.
#pragma once

#include <optional>
#include <string_view>

#include "model/report.h"

namespace ballast::cli {

// Per second.
struct VmRates {
  double faults = 0;
  double first_touches = 0;
  double unzips = 0;
  double swap_ins = 0;
  double zips = 0;
  double swap_outs = 0;
  double brought_back = 0;
  double clean_drops = 0;
  double waits = 0;
  double sample_faults = 0;
  double share_scanned = 0;
  double share_joins = 0;
  double share_breaks = 0;
};

// A moment, and the one a little earlier that rates are taken from.
struct Observation {
  HostReport now;
  std::optional<HostReport> before;

  // Nothing when there was no earlier moment, the VM is new since, or its counters began anew (a
  // new daemon).
  std::optional<VmRates> rates_of(const VmReport& vm) const;
};

const VmReport* find_vm(const HostReport& host, std::string_view name);

uint64_t sum_of_shares(const HostReport& host);

// Guest memory that was never touched: what no other count holds.
uint64_t untouched_bytes(const VmReport& vm);

// What page sharing saves: shared guest memory less the frames that hold it.
uint64_t saving_bytes(const VmReport& vm);
uint64_t saving_bytes(const ShareGroupReport& group);

}  // namespace ballast::cli
