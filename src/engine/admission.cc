#include "engine/admission.h"

#include <algorithm>

#include "engine/pager.h"

namespace ballast::engine {

namespace {
constexpr uint64_t kConfiguredBytesMax = pages_to_bytes(1ull << 32);  // page numbers have 32 bits

uint64_t overhead_of(const VmSpec& spec) {
  return Pager::overhead_bytes(static_cast<uint32_t>(spec.configured_bytes / kPageBytes),
                               !spec.share_group.empty());
}
}  // namespace

Status Admission::check(const VmSpec& spec) {
  if (spec.configured_bytes % kPageBytes != 0 || spec.configured_bytes == 0) {
    return Error{fmt::format("{}: memory of {} bytes is not a positive multiple of 4096", spec.name,
                             spec.configured_bytes)};
  }
  if (spec.configured_bytes >= kConfiguredBytesMax) {
    return Error{fmt::format("{}: memory of {} is too much: below {} is possible", spec.name,
                             format_size(spec.configured_bytes), format_size(kConfiguredBytesMax))};
  }
  return check_allocation(spec.name, spec.allocation, spec.configured_bytes);
}

uint64_t Admission::reserved_for_others(const std::string& name, Nanoseconds now) const {
  uint64_t sum = 0;
  for (const auto& [vm, ahead] : reservations_) {
    if (vm != name && ahead.until > now) sum += ahead.needed_bytes;
  }
  return sum;
}

Status Admission::fits(const std::string& what, uint64_t needed, uint64_t reserved,
                       const Promises& promises) const {
  const uint64_t taken = promises.mins + reserved + promises.kept_free;
  if (taken + needed <= promises.budget) return Done{};
  return Error{fmt::format(
      "{}, but of the budget of {} the mins of {} VMs take {}, reservations {}, and {} are kept "
      "free: {} unreserved. Give it a smaller --min, stop a VM, or raise ballastd's --memory",
      what, format_size(promises.budget), promises.vms, format_size(promises.mins),
      format_size(reserved), format_size(promises.kept_free),
      format_size(promises.budget - std::min(promises.budget, taken)))};
}

Status Admission::admit(const VmSpec& spec, const Promises& promises, Nanoseconds now) const {
  BALLAST_TRY_STATUS(check(spec));
  const uint64_t overhead = overhead_of(spec);
  const uint64_t needed = spec.allocation.min_bytes + overhead;
  return fits(fmt::format("{} needs {} (min {} + overhead {})", spec.name, format_size(needed),
                          format_size(spec.allocation.min_bytes), format_size(overhead)),
              needed, reserved_for_others(spec.name, now), promises);
}

Status Admission::raise_min(const VmSpec& spec, uint64_t overhead_bytes, uint64_t min_bytes,
                            const Promises& promises, Nanoseconds now) const {
  const uint64_t needed = min_bytes + overhead_bytes;
  return fits(fmt::format("{} would need {} (min {} + overhead {})", spec.name, format_size(needed),
                          format_size(min_bytes), format_size(overhead_bytes)),
              needed, reserved_for_others(spec.name, now), promises);
}

Status Admission::reserve(const VmSpec& spec, Nanoseconds span, const Promises& promises,
                          Nanoseconds now) {
  BALLAST_TRY_STATUS(admit(spec, promises, now));
  std::erase_if(reservations_, [now](const auto& one) { return one.second.until <= now; });
  reservations_[spec.name] = {spec.configured_bytes, spec.allocation.min_bytes,
                              spec.allocation.min_bytes + overhead_of(spec), now + span};
  return Done{};
}

Status Admission::unreserve(const std::string& name, Nanoseconds now) {
  const auto found = reservations_.find(name);
  if (found == reservations_.end() || found->second.until <= now) {
    return Error{fmt::format("nothing is reserved for a VM named {}", name)};
  }
  reservations_.erase(found);
  return Done{};
}

uint64_t Admission::unreserved(const Promises& promises, Nanoseconds now) const {
  const uint64_t taken = promises.mins + promises.kept_free + reserved_for_others("", now);
  return promises.budget - std::min(promises.budget, taken);
}

std::vector<Reservation> Admission::reservations(Nanoseconds now) const {
  std::vector<Reservation> result;
  for (const auto& [vm, ahead] : reservations_) {
    if (ahead.until <= now) continue;
    result.push_back({vm, ahead.configured_bytes, ahead.min_bytes, ahead.until - now});
  }
  return result;
}

}  // namespace ballast::engine
