#include "engine/host.h"

#include <algorithm>

#include "engine/policy/targets.h"

namespace ballast::engine {

namespace {
// Reclaim may need a slab of the compression cache and a page of checksums per VM before it frees
// anything.
constexpr uint64_t kReserveBytesPerVm = 64 * 1024;
constexpr uint64_t kBudgetBytesMin = 16ull << 20;
constexpr uint64_t kConfiguredBytesMax = pages_to_bytes(1ull << 32);  // page numbers have 32 bits
}  // namespace

Result<std::unique_ptr<Host>> Host::create(uint64_t budget_bytes, uint64_t own_bytes,
                                           Options options, const machine::Clock& clock) {
  if (budget_bytes < kBudgetBytesMin + own_bytes) {
    return Error{fmt::format("a budget of {} is too small: at least {} are needed",
                             format_size(budget_bytes), format_size(kBudgetBytesMin + own_bytes))};
  }
  return std::unique_ptr<Host>(new Host(budget_bytes, own_bytes, options, clock));
}

Host::Host(uint64_t budget_bytes, uint64_t own_bytes, const Options& options,
           const machine::Clock& clock)
    : ledger_(budget_bytes),
      own_bytes_(own_bytes),
      options_(options),
      clock_(clock),
      started_(clock.now()),
      min_free_(min_free_bytes(budget_bytes, options.min_free_percent)) {
  ledger_.charge_existing(own_bytes);
  balance();
}

Status Host::admit(const VmSpec& spec) const {
  if (spec.configured_bytes % kPageBytes != 0 || spec.configured_bytes == 0) {
    return Error{fmt::format("{}: memory of {} bytes is not a positive multiple of 4096", spec.name,
                             spec.configured_bytes)};
  }
  if (spec.configured_bytes >= kConfiguredBytesMax) {
    return Error{fmt::format("{}: memory of {} is too much: below {} is possible", spec.name,
                             format_size(spec.configured_bytes), format_size(kConfiguredBytesMax))};
  }
  if (spec.allocation.min_bytes > spec.configured_bytes) {
    return Error{fmt::format("{}: min of {} is above its memory of {}", spec.name,
                             format_size(spec.allocation.min_bytes),
                             format_size(spec.configured_bytes))};
  }
  uint64_t reserved = own_bytes_;
  for (const Pager* pager : pagers_) {
    if (pager->spec().name == spec.name) {
      return Error{fmt::format("a VM named {} runs already; names must differ", spec.name)};
    }
    reserved += pager->spec().allocation.min_bytes + pager->report().overhead_bytes;
  }
  const uint64_t overhead =
      Pager::overhead_bytes(static_cast<uint32_t>(spec.configured_bytes / kPageBytes));
  const uint64_t needed = spec.allocation.min_bytes + overhead;
  const uint64_t reserve = min_free_ + (pagers_.size() + 1) * kReserveBytesPerVm;
  if (reserved + reserve + needed > ledger_.budget()) {
    return Error{fmt::format(
        "{} needs {} (min {} + overhead {}), but of the budget of {} the mins of {} VMs take {} "
        "and {} are kept "
        "free: {} unreserved. Give it a smaller --min, stop a VM, or raise ballastd's --memory",
        spec.name, format_size(needed), format_size(spec.allocation.min_bytes),
        format_size(overhead), format_size(ledger_.budget()), pagers_.size(), format_size(reserved),
        format_size(reserve),
        format_size(ledger_.budget() - std::min(ledger_.budget(), reserved + reserve)))};
  }
  return Done{};
}

void Host::add(Pager& pager) {
  pagers_.push_back(&pager);
  balance();
}

void Host::remove(Pager& pager) {
  std::erase(pagers_, &pager);
  balance();
}

void Host::balance() {
  // Reclaim starts at ESX's soft line and stops when minFree is there again, both above the
  // reserve: a fault that finds only the reserve must find reclaim at work.
  const uint64_t reserve = pagers_.size() * kReserveBytesPerVm;
  ledger_.set_levels(reserve, reserve + min_free_ / 100 * 64, reserve + min_free_);
  std::vector<Demand> demands;
  for (const Pager* pager : pagers_) {
    const VmReport report = pager->report();
    // Consumed includes the overhead, so all three do.
    demands.push_back({report.spec.configured_bytes + report.overhead_bytes,
                       report.spec.allocation.min_bytes + report.overhead_bytes,
                       report.consumed_bytes});
  }
  const uint64_t memory =
      ledger_.budget() - std::min(ledger_.budget(), own_bytes_ + reserve + min_free_);
  const auto result = targets(memory, demands);
  for (size_t i = 0; i < pagers_.size(); ++i) pagers_[i]->set_target(result[i]);
}

HostReport Host::report() const {
  HostReport report;
  report.budget_bytes = ledger_.budget();
  report.consumed_bytes = ledger_.consumed();
  report.peak_consumed_bytes = ledger_.peak();
  report.free_bytes = ledger_.free();
  report.daemon_bytes = own_bytes_;
  report.state = budget_state(report.free_bytes, min_free_);
  report.uptime_ns = clock_.now() - started_;
  for (const Pager* pager : pagers_) {
    report.vms.push_back(pager->report());
    report.promised_bytes += pager->spec().configured_bytes;
    report.min_bytes += pager->spec().allocation.min_bytes;
  }
  return report;
}

}  // namespace ballast::engine
