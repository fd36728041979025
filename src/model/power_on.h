// PowerOn: what `ballast set` keeps of a VM for the times when it is powered on, because it cannot
// be changed while the VM runs: salt and page sharing. It wins over what the VM is started with.
// Plain data and its rules; pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "model/allocation.h"
#include "model/vm_spec.h"

namespace ballast {

enum class PageSharing : uint8_t { kAsStarted, kOn, kOff };

struct PowerOn {
  std::string salt;  // empty: as it is started
  PageSharing sharing = PageSharing::kAsStarted;
  bool operator==(const PowerOn&) const = default;
};

// What is absent stays as it is.
struct PowerOnChange {
  std::optional<std::string> salt;  // empty: none is kept any more
  std::optional<PageSharing> sharing;
  bool operator==(const PowerOnChange&) const = default;
};
PowerOn apply(PowerOn kept, const PowerOnChange& change);
// The VM as it is when it is powered on with this.
VmSpec apply(VmSpec started, const PowerOn& kept);

// "default" (as it is started), "on" or "off"; refuses the rest.
Result<PageSharing> parse_sharing(std::string_view text);
std::string format_sharing(PageSharing sharing);

// All that `ballast set` can change of a VM.
struct VmChange {
  AllocationChange allocation;  // at once
  PowerOnChange power_on;       // for the next time
  bool operator==(const VmChange&) const = default;
};

// The salt group that a running VM would be in if it were powered on anew. `now`: as it runs;
// `started`: with what it was started with itself.
std::string next_share_group(const VmSpec& now, const VmSpec& started, const PowerOn& kept,
                             uint32_t force_salting);

}  // namespace ballast
