// VmControl: what the engine may ask of a VM as a whole, and how it reports. Part of the machine
// contract.
#pragma once

#include <string>

#include "base/units.h"

namespace ballast::machine {

enum class Severity { kInfo, kWarning, kError };

class VmControl {
 public:
  virtual ~VmControl() = default;

  // Stops the VM's execution until an operator resumes it: one of its pages cannot be read, or its
  // process cannot be trusted. `why`, a literal, is what reports say.
  virtual void freeze(const char* why) = 0;
  // How long the VM has run since some moment: stands still while it is paused or frozen.
  virtual Nanoseconds run_time() const = 0;
  // One line for the operator's event log. `kind` is a stable dotted word such as "swap.failed".
  virtual void event(Severity severity, std::string kind, std::string message) = 0;
};

}  // namespace ballast::machine
