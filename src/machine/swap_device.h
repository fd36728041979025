// SwapDevice: one VM's swap file as the engine sees it: 4 KiB slots, asynchronous reads and writes.
// Part of the machine contract.
//
// Calls come from the VM's worker only. Space for all slots was reserved when the device was made.
// Buffers are page-aligned and stay untouched by the engine from the call until the completion with
// the same token was taken. Operations may complete in any order; two operations on overlapping
// slots are never in flight together. A completion with kOk for a write means a later read returns
// these bytes, or an error: never silently others (the engine checks a checksum all the same).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/units.h"

namespace ballast::machine {

using IoToken = uint64_t;
enum class IoStatus { kOk, kNoSpace, kFailed };
struct IoDone {
  IoToken token = 0;
  IoStatus status = IoStatus::kOk;
};

class SwapDevice {
 public:
  virtual ~SwapDevice() = default;

  virtual uint32_t slot_count() const = 0;
  // Queues one operation over consecutive slots (bytes.size() / 4 KiB of them); submit() starts all
  // queued ones.
  virtual void write(SwapSlot first, std::span<const std::byte> bytes, IoToken token) = 0;
  virtual void read(SwapSlot first, std::span<std::byte> bytes, IoToken token) = 0;
  virtual void submit() = 0;
  // Takes completions that are there, without waiting. Returns how many were written to `done`.
  [[nodiscard]] virtual size_t poll(std::span<IoDone> done) = 0;
};

}  // namespace ballast::machine
