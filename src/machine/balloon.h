// Balloon: the device through which a guest gives memory up by its own choice. Part of the machine
// contract.
//
// Everything here comes from the guest or from QEMU and may be late, wrong or a lie: who uses it
// clamps it. Calls never block; one thread (the daemon's main thread, the simulator's loop).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/units.h"

namespace ballast::machine {

// What the guest's driver tells about its memory; absent where it tells nothing.
struct GuestStats {
  std::optional<uint64_t> total_bytes;  // without the balloon, or with it: depends on the driver
  std::optional<uint64_t> free_bytes;
  std::optional<uint64_t> available_bytes;  // could be given up without swapping
  std::optional<uint64_t> swap_in_bytes;    // since its boot
  std::optional<uint64_t> swap_out_bytes;
  std::optional<uint64_t> major_faults;
  Nanoseconds at = 0;  // our clock, when they last changed
};

struct BalloonView {
  enum class Link : uint8_t {
    kNone,         // the VM has no balloon device
    kConnecting,   // not known yet
    kReady,        // `actual_bytes` is true
    kUnreachable,  // the monitor hangs, closed or talks nonsense; tried again
  };
  Link link = Link::kNone;
  bool vm_runs = true;              // false: stopped by somebody (QMP stop, migration)
  uint64_t actual_bytes = 0;        // memory that the guest has left: RAM − balloon
  std::optional<GuestStats> stats;  // absent: the driver has told nothing (no driver yet?)
  // Grows when the guest boots anew (by one or more: firmware may reset once again): its driver
  // starts with an empty balloon, its statistics begin anew.
  uint32_t resets = 0;
  std::string problem;  // with kUnreachable: what is wrong, for the operator
};

class Balloon {
 public:
  virtual ~Balloon() = default;
  virtual BalloonView view() const = 0;
  // Asks the guest to keep so much memory (RAM − balloon). A wish: view() tells what came of it.
  virtual void request(uint64_t guest_bytes) = 0;
  // How often the driver should tell its statistics; 0 = never.
  virtual void set_stats_period(uint32_t seconds) = 0;
};

}  // namespace ballast::machine
