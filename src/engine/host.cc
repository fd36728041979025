#include "engine/host.h"

#include <algorithm>

namespace ballast::engine {

namespace {

// Reclaim may need a slab of the compression cache and a page of checksums per VM before it frees
// anything.
constexpr uint64_t kReserveBytesPerVm = 64 * 1024;
constexpr uint64_t kBudgetBytesMin = 16ull << 20;
constexpr Nanoseconds kTickCalm = kSecond;
constexpr Nanoseconds kTickBusy = 250 * kMillisecond;
// How often a guest's driver tells its statistics.
constexpr uint32_t kStatsCalmSeconds = 10;
constexpr uint32_t kStatsBusySeconds = 1;
// A VM that is less active than this has no use for its swapped pages now.
constexpr uint64_t kActivePartMin = 50;  // 1/50 of its memory

bool in_motion(const BalloonPlan& plan) {
  return plan.condition == BalloonCondition::kInflating ||
         plan.condition == BalloonCondition::kDeflating ||
         plan.condition == BalloonCondition::kSpared;
}

}  // namespace

Result<std::unique_ptr<Host>> Host::create(uint64_t budget_bytes, uint64_t own_bytes,
                                           Options options, const machine::Clock& clock,
                                           EventSink sink) {
  if (budget_bytes < kBudgetBytesMin + own_bytes) {
    return Error{fmt::format("a budget of {} is too small: at least {} are needed",
                             format_size(budget_bytes), format_size(kBudgetBytesMin + own_bytes))};
  }
  return std::unique_ptr<Host>(new Host(budget_bytes, own_bytes, options, clock, std::move(sink)));
}

Host::Host(uint64_t budget_bytes, uint64_t own_bytes, const Options& options,
           const machine::Clock& clock, EventSink sink)
    : ledger_(budget_bytes),
      own_bytes_(own_bytes),
      options_(options),
      clock_(clock),
      started_(clock.now()),
      planner_(options_),
      log_(std::move(sink)),
      state_since_(started_) {
  ledger_.charge_existing(own_bytes);
  set_levels();
}

// The states begin above the reserve: a fault that finds only the reserve must find reclaim at
// work.
void Host::set_levels() {
  const uint64_t reserve = members_.size() * kReserveBytesPerVm;
  thresholds_ =
      make_thresholds(options_.thresholds, ledger_.budget(), options_.min_free_percent, reserve);
  ledger_.set_thresholds(reserve, thresholds_);
}

// What is above the line where paging stops is what the VMs can have.
uint64_t Host::divided_bytes() const {
  return ledger_.budget() - std::min(ledger_.budget(), own_bytes_ + ledger_.stop_level());
}

Promises Host::promises() const {
  const uint64_t reserve = (members_.size() + 1) * kReserveBytesPerVm;
  Promises promises{
      .budget = ledger_.budget(),
      .mins = own_bytes_,
      .kept_free = reserve + min_free_bytes(ledger_.budget(), options_.min_free_percent)};
  for (const Member& member : members_) {
    promises.mins += member.allocation.min_bytes + member.pager->report().overhead_bytes;
    ++promises.vms;
  }
  return promises;
}

Status Host::admit(const VmSpec& spec) const {
  for (const Member& member : members_) {
    if (member.pager->spec().name == spec.name) {
      return Error{fmt::format("a VM named {} runs already; names must differ", spec.name)};
    }
  }
  return admission_.admit(spec, promises(), clock_.now());
}

Status Host::reserve(const VmSpec& spec, Nanoseconds span) {
  BALLAST_TRY_STATUS(admit(spec));
  return admission_.reserve(spec, span, promises(), clock_.now());
}

Status Host::unreserve(const std::string& name) { return admission_.unreserve(name, clock_.now()); }

void Host::add(const Parts& parts, const Allocation& allocation) {
  admission_.arrived(parts.pager->spec().name);
  members_.push_back(
      {parts.pager, parts.balloon, parts.grow_swap, parts.share, allocation, {}, false});
  set_levels();
  tick();
}

void Host::remove(Pager& pager) {
  log_.forget(pager.spec().name);
  std::erase_if(members_, [&](const Member& member) { return member.pager == &pager; });
  set_levels();
  tick();
}

Host::Member* Host::find(const std::string& vm) {
  const auto found = std::ranges::find_if(
      members_, [&](const Member& member) { return member.pager->spec().name == vm; });
  return found == members_.end() ? nullptr : &*found;
}

const Allocation* Host::allocation(const std::string& vm) const {
  const Member* member = const_cast<Host*>(this)->find(vm);
  return member == nullptr ? nullptr : &member->allocation;
}

Status Host::check_change(const Member& member, const Allocation& wanted, Promises then) const {
  const VmSpec& spec = member.pager->spec();
  BALLAST_TRY_STATUS(check_allocation(spec.name, wanted, spec.configured_bytes));
  if (wanted.min_bytes <= member.allocation.min_bytes) return Done{};
  const uint64_t overhead = member.pager->report().overhead_bytes;
  then.mins -= wanted.min_bytes + overhead;
  --then.vms;
  return admission_.raise_min(spec, overhead, wanted.min_bytes, then, clock_.now());
}

Status Host::set(const std::string& vm, const AllocationChange& change) {
  Member* member = find(vm);
  if (member == nullptr) return Error{fmt::format("no VM is named {}", vm)};
  const Allocation wanted = apply(member->allocation, change);
  Promises then = promises();
  then.mins += wanted.min_bytes - member->allocation.min_bytes;
  BALLAST_TRY_STATUS(check_change(*member, wanted, then));
  // What is above min may have to leave memory.
  const uint64_t swap = member->pager->spec().configured_bytes - wanted.min_bytes;
  if (swap > member->pager->report().swap_reserved_bytes) {
    const Status grown =
        member->grow_swap ? member->grow_swap(swap) : Error{"its swap file cannot grow"};
    if (!grown) {
      return Error{fmt::format("{}: a min of {} needs {} of swap, {} are reserved: {}", vm,
                               format_size(wanted.min_bytes), format_size(swap),
                               format_size(member->pager->report().swap_reserved_bytes),
                               grown.error().message)};
    }
  }
  member->allocation = wanted;
  tick();
  return Done{};
}

Status Host::set_option(std::string_view name, std::string_view value) {
  BALLAST_TRY_STATUS(ballast::set_option(options_, name, value));
  set_levels();
  planner_.due();
  tick();
  return Done{};
}

std::vector<VmSituation> Host::situations() const {
  std::vector<VmSituation> result;
  result.reserve(members_.size());
  for (const Member& member : members_) {
    const VmReport report = own_report(member);
    VmSituation vm{.name = report.spec.name,
                   .configured_bytes = report.spec.configured_bytes,
                   .allocation = member.allocation,
                   .overhead_bytes = report.overhead_bytes,
                   .consumed_bytes = report.consumed_bytes,
                   .resident_bytes = report.resident_bytes,
                   .paged_bytes = report.compressed_bytes + report.swapped_bytes,
                   .held_bytes = report.resident_bytes + report.compressed_bytes +
                                 report.swapped_bytes + report.zero_bytes + report.shared_bytes,
                   .balloon = {}};
    vm.active_bytes = report.samples > 0 ? report.active_bytes : vm.resident_bytes + vm.paged_bytes;
    if (member.balloon != nullptr) vm.balloon = member.balloon->view();
    vm.balloon_is_foreign = member.decision.balloon.condition == BalloonCondition::kForeign;
    result.push_back(std::move(vm));
  }
  return result;
}

void Host::tick() {
  ledger_.follow_free();
  const Nanoseconds now = clock_.now();
  const HostState state = ledger_.state();
  if (state != state_) state_since_ = now;
  state_ = state;
  log_.state(state, ledger_.free(), thresholds_, now);
  const auto vms = situations();
  const auto decisions = planner_.plan({.divided_bytes = divided_bytes(),
                                        .free_bytes = ledger_.free(),
                                        .state = state,
                                        .thresholds = thresholds_,
                                        .now = now},
                                       vms);
  uint64_t wanted = 0;
  for (const VmDecision& decision : decisions) wanted += decision.target.want_bytes;
  overcommit_.see(wanted, divided_bytes(), now);
  for (size_t i = 0; i < members_.size(); ++i) {
    members_[i].decision = decisions[i];
    carry_out(members_[i], own_report(members_[i]));
    log_.vm(report_of(members_[i]), members_[i].decision, now);
  }
}

void Host::carry_out(Member& member, const VmReport& report) {
  const VmDecision& decision = member.decision;
  const uint64_t configured = member.pager->spec().configured_bytes;
  const bool active = report.samples == 0 || report.active_bytes > configured / kActivePartMin;
  member.brings_back = options_.bring_back && active;
  // The pager counts what is its own; the VM's part of shared frames comes on top.
  const uint64_t part = report.share_part_bytes;
  const auto own = [part](uint64_t bytes) {
    return bytes == kNoFloor ? kNoFloor : bytes - std::min(bytes, part);
  };
  member.pager->set_orders({.target_bytes = own(decision.target.target_bytes),
                            .soft_floor_bytes = own(decision.soft_floor_bytes),
                            .limit_floor_bytes = own(decision.limit_floor_bytes),
                            .min_bytes = own(member.allocation.min_bytes),
                            .bring_back = member.brings_back,
                            .share_rate = share_rate(),
                            .ballooned = decision.balloon.size_bytes > 0});
  if (member.balloon == nullptr) return;
  if (member.balloon->view().link != machine::BalloonView::Link::kReady) return;
  const bool busy = state_ >= HostState::kSoft || planner_.expects_shortage() ||
                    decision.balloon.size_bytes > 0 || in_motion(decision.balloon);
  member.balloon->set_stats_period(busy ? kStatsBusySeconds : kStatsCalmSeconds);
  if (decision.balloon.condition == BalloonCondition::kForeign) return;
  member.balloon->request(configured - std::min(configured, decision.balloon.request_bytes));
}

Nanoseconds Host::tick_period() const {
  const bool moving = std::ranges::any_of(
      members_, [](const Member& member) { return in_motion(member.decision.balloon); });
  return moving || state_ >= HostState::kSoft || planner_.expects_shortage() ? kTickBusy
                                                                             : kTickCalm;
}

// Mem.ShareScanGHz limits the host, Mem.ShareRateMax each VM. Pages per second.
uint32_t Host::share_rate() const {
  if (options_.share_scan_ghz == 0 || options_.share_scan_minutes == 0) return 0;
  if (cpu_ghz_ <= 0) return options_.share_rate_max;
  const auto sharing = static_cast<uint64_t>(std::ranges::count_if(
      members_, [](const Member& member) { return member.share != nullptr; }));
  const double host =
      cpu_ghz_ * options_.share_scan_ghz * static_cast<double>(pages_floor(1 << 20));
  const auto each = static_cast<uint64_t>(host) / std::max<uint64_t>(sharing, 1);
  return static_cast<uint32_t>(std::min<uint64_t>(options_.share_rate_max, each));
}

VmReport Host::own_report(const Member& member) {
  VmReport report = member.pager->report();
  if (member.share == nullptr) return report;
  report.share_part_bytes = member.share->part_bytes(pages_floor(report.shared_bytes));
  report.consumed_bytes += report.share_part_bytes;
  return report;
}

PagingSituation Host::paging_of(const Member& member, const VmReport& report) const {
  const VmDecision& decision = member.decision;
  return {.state = ledger_.state(),
          .consumed_bytes = report.consumed_bytes,
          .swapped_bytes = report.swapped_bytes,
          .swap_bytes = report.swap_reserved_bytes,
          .target_bytes = decision.target.target_bytes,
          .soft_floor_bytes = decision.soft_floor_bytes,
          .limit_floor_bytes = decision.limit_floor_bytes,
          .brings_back = member.brings_back};
}

VmReport Host::report_of(const Member& member) const {
  VmReport report = own_report(member);
  const VmDecision& decision = member.decision;
  report.swap_target_bytes = swap_target_bytes(paging_of(member, report));
  report.spec.allocation = member.allocation;
  report.target_bytes = decision.target.target_bytes;
  report.shares = decision.target.shares;
  report.want_bytes = decision.target.want_bytes;
  report.bound = name_of(decision.target.bound);
  report.balloon_state = name_of(decision.balloon.condition);
  report.balloon_bytes = decision.balloon.size_bytes;
  report.balloon_target_bytes = decision.balloon.request_bytes;
  report.balloon_max_bytes = decision.balloon_max_bytes;
  if (member.balloon == nullptr) return report;
  if (const auto stats = member.balloon->view().stats) {
    report.guest_total_bytes = stats->total_bytes.value_or(0);
    report.guest_available_bytes = stats->available_bytes.value_or(0);
  }
  return report;
}

HostReport Host::report() const {
  const Nanoseconds now = clock_.now();
  HostReport report;
  report.budget_bytes = ledger_.budget();
  report.consumed_bytes = ledger_.consumed();
  report.peak_consumed_bytes = ledger_.peak();
  report.free_bytes = ledger_.free();
  report.daemon_bytes = own_bytes_;
  report.state = name_of(ledger_.state());
  report.state_ns = ledger_.state() == state_ ? now - state_since_ : 0;
  report.min_free_bytes = min_free_bytes(ledger_.budget(), options_.min_free_percent);
  report.soft_bytes = thresholds_.enter_of(HostState::kSoft);
  report.hard_bytes = thresholds_.enter_of(HostState::kHard);
  report.low_bytes = thresholds_.enter_of(HostState::kLow);
  report.divided_bytes = divided_bytes();
  report.unreserved_bytes = admission_.unreserved(promises(), now);
  const Overcommit::Averages overcommit = overcommit_.averages();
  report.overcommit_1min_percent = overcommit.percent_1min;
  report.overcommit_5min_percent = overcommit.percent_5min;
  report.overcommit_15min_percent = overcommit.percent_15min;
  report.idle_tax_percent = options_.idle_tax_percent;
  report.idle_tax_type = options_.idle_tax_type == TaxType::kVariable ? "variable" : "flat";
  report.uptime_ns = now - started_;
  report.reservations = admission_.reservations(now);
  std::vector<const ShareGroup*> groups;
  for (const Member& member : members_) {
    if (member.share != nullptr && std::ranges::find(groups, member.share) == groups.end()) {
      groups.push_back(member.share);
      report.share_groups.push_back(member.share->report());
      report.share_tables_bytes += member.share->table().bytes();
    }
    report.vms.push_back(report_of(member));
    report.promised_bytes += member.pager->spec().configured_bytes;
    report.min_bytes += member.allocation.min_bytes;
  }
  return report;
}

}  // namespace ballast::engine
