#include "engine/pager.h"

#include <algorithm>
#include <bit>

#include "base/random.h"
#include "engine/recover/take_over.h"

namespace ballast::engine {

namespace {
// Scratch run, swap clusters, waiting list, slab descriptors, the worker's stack: what one VM costs
// besides its tables.
constexpr uint64_t kFixedOverheadBytes = 640 * 1024 + ActiveSampler::kMemoryBytes;
// A VM at its target reclaims from itself at once when its own fault finds no memory; one below
// waits so long for the others first.
constexpr Nanoseconds kPatience = 50 * kMillisecond;
constexpr Nanoseconds kStallReportAfter = 2 * kSecond;
// A VM that the low state blocks and that finds nothing of its own to give may go on after so long,
// if there is memory at all: waiting longer would help nobody.
constexpr Nanoseconds kBlockPatience = kSecond;

uint32_t slots_of(const VmSpec& spec) {
  return static_cast<uint32_t>(pages_ceil(swap_bytes(spec)));
}
uint32_t pages_of(const VmSpec& spec) {
  return static_cast<uint32_t>(pages_ceil(spec.configured_bytes));
}

// What the VM's side handed over must be of the sizes that its spec asks for.
Status check_sizes(const VmSpec& spec, const PagerParts& parts) {
  const uint32_t pages = pages_of(spec);
  const auto refused = [&](const char* what, uint64_t is, uint64_t expected) {
    return Error{fmt::format("{} of {} has {}, but its memory of {} needs {}", what, spec.name, is,
                             format_size(spec.configured_bytes), expected)};
  };
  if (parts.memory.page_count() != pages)
    return refused("the guest RAM (pages)", parts.memory.page_count(), pages);
  if (parts.memory.discard_bits().size() < (pages + 63) / 64)
    return refused("the discard bitmap (words)", parts.memory.discard_bits().size(),
                   (pages + 63) / 64);
  if (parts.swap.slot_count() < slots_of(spec))
    return refused("the swap file (slots)", parts.swap.slot_count(), slots_of(spec));
  if (parts.store.arena().size() != Pager::arena_bytes(pages))
    return refused("the arena (bytes)", parts.store.arena().size(), Pager::arena_bytes(pages));
  return Done{};
}

}  // namespace

// The swap file may grow up to one slot per page: the checksum table is made for that, and sparse.
size_t Pager::tables_bytes(uint32_t pages) { return Tables::bytes_for(pages, pages); }
size_t Pager::arena_bytes(uint32_t pages) {
  return std::max<size_t>(size_t{pages} * kPageBytes / ZipCache::kSlabBytes, 1) *
         ZipCache::kSlabBytes;
}
uint64_t Pager::overhead_bytes(uint32_t pages, bool shares) {
  const uint64_t sharing =
      shares ? pages * (ShareGroup::kOverheadBytesPerPage + ShareScan::kBytesPerPage) : 0;
  // A byte per page for the slab descriptors of a compression cache of 10 %.
  return Tables::bytes_for(pages, 0) + (pages_ceil(pages) + pages_ceil(sharing)) * kPageBytes +
         kFixedOverheadBytes;
}

Pager::Pager(const VmSpec& spec, const PagerParts& parts, Tables tables)
    : vm_(spec, parts, tables),
      sampler_(vm_),
      io_(vm_),
      away_(vm_, parts.share, parts.share_mappings_max),
      sharer_(vm_, away_, parts.share, parts.share_member),
      scan_(vm_, sharer_, parts.share != nullptr),
      bring_back_(vm_, io_),
      faults_(vm_, io_, bring_back_),
      reclaimer_(vm_, io_, sharer_, away_) {
  vm_.away = &away_;
  set_options(parts.options);
  report_.spec = spec;
  report_.swap_reserved_bytes = pages_to_bytes(vm_.slots.count());
}

Status Pager::charge_overhead(bool existing) {
  const uint64_t bytes = overhead_bytes(vm_.tables.page_count(), !vm_.spec.share_group.empty());
  if (existing) {
    vm_.ledger.charge_existing(bytes);
  } else if (!vm_.ledger.try_charge(bytes)) {
    return Error{
        fmt::format("{} of memory for the tables of {} do not fit: {} of the budget of {} are free",
                    format_size(bytes), vm_.spec.name, format_size(vm_.ledger.free()),
                    format_size(vm_.ledger.budget()))};
  }
  vm_.overhead_bytes = bytes;
  return Done{};
}

Result<std::unique_ptr<Pager>> Pager::create(const VmSpec& spec, const PagerParts& parts) {
  BALLAST_TRY_STATUS(check_sizes(spec, parts));
  const Tables tables = Tables::format(parts.store.tables(), pages_of(spec), pages_of(spec),
                                       Random(parts.seed).next(), spec.share_group);
  std::unique_ptr<Pager> pager(new Pager(spec, parts, tables));
  BALLAST_TRY_STATUS(pager->charge_overhead(false));
  pager->vm_.counts[static_cast<size_t>(PageState::kUntouched)] = tables.page_count();
  pager->publish();
  return pager;
}

Result<std::unique_ptr<Pager>> Pager::take_over(const VmSpec& spec, const PagerParts& parts) {
  BALLAST_TRY(const Tables tables,
              Tables::open(parts.store.tables(), pages_of(spec), pages_of(spec)));
  BALLAST_TRY_STATUS(check_sizes(spec, parts));
  std::unique_ptr<Pager> pager(new Pager(spec, parts, tables));
  BALLAST_TRY_STATUS(take_over_tables(pager->vm_, parts.share));
  pager->away_.take_over();
  BALLAST_TRY_STATUS(pager->charge_overhead(true));
  Vm& vm = pager->vm_;
  const uint32_t named =
      (vm.slots.high_water() + Tables::kChecksumsPerPage - 1) / Tables::kChecksumsPerPage;
  vm.charged_checksum_pages = std::max(vm.tables.checksum_pages(), named);
  vm.ledger.charge_existing(pages_to_bytes(vm.charged_checksum_pages));
  vm.overhead_bytes += pages_to_bytes(vm.charged_checksum_pages);
  pager->take_discards();
  // Events that the dead daemon read but did not serve are lost: every sleeper faults again.
  if (vm.memory.wake({PageIndex(0), vm.tables.page_count()}) == machine::MemoryResult::kGone)
    vm.gone = true;
  pager->publish();
  return pager;
}

Pager::~Pager() { vm_.ledger.uncharge(pages_to_bytes(vm_.charged_frames) + vm_.overhead_bytes); }

void Pager::handle(std::span<const machine::Fault> faults) {
  for (const machine::Fault& fault : faults) faults_.serve(fault);
  publish();
}

void Pager::take_discards() {
  vm_.discards_left = false;
  const auto bits = vm_.memory.discard_bits();
  for (uint32_t word = 0; word < bits.size() && !vm_.gone; ++word) {
    if (bits[word].load(std::memory_order_relaxed) != 0) vm_.take_discarded_word(word);
  }
  publish();
}

bool Pager::poll_io() {
  const bool any = io_.poll();
  if (any) publish();
  return any;
}

// A fault waits for memory: whoever is at or above his target makes room himself; below it, the
// others are asked first and get some time. Nobody is taken below his min.
bool Pager::may_reclaim_for_waiting() const {
  const Nanoseconds since = faults_.waiting_since();
  if (since == 0 || vm_.consumed() <= vm_.floor_bytes()) return false;
  return vm_.consumed() >= vm_.orders.target_bytes() || vm_.clock.now() - since > kPatience;
}

void Pager::set_options(const Options& options) {
  sampler_.set(options);
  share_pass_seconds_ = options.share_scan_minutes * 60;
  scan_.set(std::min(options.share_rate_max, vm_.orders.share_rate()), share_pass_seconds_);
}

Nanoseconds Pager::next_due() const {
  Nanoseconds due = std::min(sampler_.next_due(), scan_.next_due());
  const Nanoseconds home = away_.next_due();
  if (home == ActiveSampler::kNever) return due;
  const Nanoseconds now = vm_.clock.now();
  return std::min(due, vm_.control.run_time() + (home > now ? home - now : 0));
}

// Ends of remappings, letters, home-comings; then, when nothing else asks for the worker, a step of
// the scan. True if letters came: there may be more.
bool Pager::share(bool busy) {
  if (const uint32_t rate = vm_.orders.share_rate(); rate != share_rate_) {
    share_rate_ = rate;
    scan_.set(rate, share_pass_seconds_);
  }
  away_.poll();
  const bool letters = sharer_.read_letters();
  away_.turn();
  if (!faults_.waiting()) scan_.turn(vm_.control.run_time(), busy);
  if (vm_.discards_left) take_discards();
  return letters;
}

bool Pager::turn() {
  if (vm_.gone) return false;
  sampler_.turn(vm_.control.run_time());
  const uint64_t faults_now = vm_.counters.faults;
  const bool shared = share(faults_now != faults_seen_);
  faults_seen_ = faults_now;
  bool progress = faults_.waiting() && faults_.retry_waiting();
  const bool for_waiting = may_reclaim_for_waiting();
  const bool wanted = for_waiting || reclaimer_.wanted() > 0 || asked_pages_ > 0;
  if (wanted) {
    const uint32_t moved =
        reclaimer_.step(for_waiting ? Reclaimer::Need::kWaitingFault : Reclaimer::Need::kTarget);
    asked_pages_ -=
        std::min<uint64_t>(asked_pages_, moved > 0 || io_.busy() ? moved : asked_pages_);
    progress |= moved > 0;
    if (moved == 0) io_.flush();
    note_stall(moved > 0 || io_.busy());
  } else {
    io_.flush();
    vm_.let_pass = false;
    if (!faults_.waiting()) bring_back_.turn();
  }
  publish();
  return (progress && wanted) || shared;
}

// Reclaim is wanted; `moves` tells whether anything came of it.
void Pager::note_stall(bool moves) {
  if (moves) {
    stalled_since_ = 0;
    stall_reported_ = vm_.let_pass = false;
    return;
  }
  if (stalled_since_ == 0) stalled_since_ = vm_.clock.now();
  const Nanoseconds stalled = vm_.clock.now() - stalled_since_;
  vm_.let_pass = stalled > kBlockPatience;
  if (stall_reported_ || stalled <= kStallReportAfter) return;
  stall_reported_ = true;
  vm_.control.event(
      machine::Severity::kWarning, "reclaim.stalled",
      fmt::format("memory of {} is needed but none can be taken: compression cache {} of {}, "
                  "swap {} of {} slots free; faults wait",
                  vm_.spec.name, format_size(vm_.zip.used_bytes()),
                  format_size(vm_.zip.max_bytes()), vm_.slots.free_count(), vm_.slots.count()));
}

void Pager::reclaim(uint64_t pages) {
  const uint64_t consumed = vm_.consumed();
  asked_pages_ = std::min(pages, pages_floor(consumed - std::min(consumed, vm_.floor_bytes())));
}

void Pager::swap_grew() {
  vm_.slots.grow(std::min(vm_.swap.slot_count(), vm_.tables.slot_count()));
  const std::lock_guard lock(report_lock_);
  report_.swap_reserved_bytes = pages_to_bytes(vm_.slots.count());
}

uint32_t Pager::retry_lost() {
  const uint32_t retried = io_.retry_lost();
  publish();
  return retried;
}

// Numbers only: the fault path must not allocate.
void Pager::publish() {
  const std::lock_guard lock(report_lock_);
  report_.consumed_bytes = vm_.consumed();
  report_.resident_bytes = pages_to_bytes(vm_.charged_frames);
  report_.arena_bytes = vm_.zip.used_bytes();
  report_.arena_max_bytes = vm_.zip.max_bytes();
  report_.overhead_bytes = vm_.overhead_bytes;
  report_.compressed_bytes = pages_to_bytes(vm_.count(PageState::kCompressed));
  report_.swapped_bytes = pages_to_bytes(vm_.count(PageState::kSwapped));
  report_.zero_bytes = pages_to_bytes(vm_.count(PageState::kZero));
  report_.ballooned_bytes = pages_to_bytes(vm_.count(PageState::kBallooned));
  report_.lost_pages = vm_.count(PageState::kLost);
  report_.shared_bytes = pages_to_bytes(vm_.count(PageState::kShared));
  report_.share_scanned = vm_.counters.share_scanned;
  report_.share_joins = vm_.counters.share_joins;
  report_.share_breaks = vm_.counters.share_breaks;
  report_.share_rate = scan_.rate();
  share_slowed_ = scan_.slowed();
  share_full_ = vm_.share != nullptr && !away_.has_mappings();
  report_.faults = vm_.counters.faults;
  report_.first_touches = vm_.counters.first_touches;
  report_.unzips = vm_.counters.unzips;
  report_.swap_ins = vm_.counters.swap_ins;
  report_.zips = vm_.counters.zips;
  report_.swap_outs = vm_.counters.swap_outs;
  report_.brought_back = vm_.counters.brought_back;
  report_.clean_drops = vm_.counters.clean_drops;
  report_.waits = vm_.counters.waits;
  const ActiveSampler::Estimate active = sampler_.estimate();
  report_.active_bytes = active.active;
  report_.active_error_bytes = active.error;
  report_.active_slow_bytes = active.slow;
  report_.active_fast_bytes = active.fast;
  report_.active_now_bytes = active.now;
  report_.samples = active.periods;
  report_.sample_faults = active.faults_cost;
}

bool Pager::wants_to_move() const {
  const VmReport report = this->report();
  const HostState state = vm_.ledger.state();
  const StandingOrders& orders = vm_.orders;
  if (report.consumed_bytes > orders.limit_floor_bytes()) return true;
  if (state >= HostState::kHard) return report.consumed_bytes > orders.target_bytes();
  if (state == HostState::kSoft) return report.consumed_bytes > orders.soft_floor_bytes();
  return orders.bring_back() && report.swapped_bytes > 0 && state <= HostState::kClear &&
         report.consumed_bytes < orders.target_bytes();
}

VmReport Pager::report() const {
  VmReport report;
  {
    const std::lock_guard lock(report_lock_);
    report = report_;
    if (share_full_) {
      report.share_note = "no more pages are shared: vm.max_map_count allows no more mappings";
    } else if (share_slowed_ > 1) {
      report.share_note =
          fmt::format("scanned {} times more slowly than asked for: the last passes found little",
                      share_slowed_);
    }
  }
  report.share_hints = sharer_.hints();
  report.target_bytes = vm_.orders.target_bytes();
  report.spec.allocation.min_bytes = vm_.orders.min_bytes();
  report.blocked =
      vm_.ledger.state() == HostState::kLow && report.consumed_bytes > report.target_bytes;
  return report;
}

void Pager::audit() const {
  const uint32_t pages = vm_.tables.page_count();
  std::array<uint64_t, kPageStates> counts{};
  uint64_t slots = 0;
  uint64_t compressed = 0;
  for (uint32_t index = 0; index < pages; ++index) {
    const PageEntry entry = vm_.get(PageIndex(index));
    ++counts[static_cast<size_t>(entry.state())];
    if (entry.state() == PageState::kCompressed) {
      ++compressed;
      BALLAST_CHECK_THAT(vm_.zip.page_at(entry.arena_offset()) == PageIndex(index), "page {}",
                         index);
    }
    if (const auto slot = entry.slot()) {
      ++slots;
      BALLAST_CHECK_THAT(vm_.slots.taken(*slot), "page {} names free slot {}", index, slot->raw());
    }
  }
  for (size_t state = 0; state < kPageStates; ++state) {
    BALLAST_CHECK_THAT(counts[state] == vm_.counts[state], "{}: {} pages, counted {}",
                       name_of(static_cast<PageState>(state)), vm_.counts[state], counts[state]);
  }
  BALLAST_CHECK_THAT(compressed == vm_.zip.slots_used() && compressed == vm_.zip.count_slots(),
                     "{} pages, {} slots", compressed, vm_.zip.slots_used());
  const uint64_t taken = vm_.slots.count() - vm_.slots.free_count();
  BALLAST_CHECK_THAT(taken >= slots && taken - slots <= io_.slots_in_flight(),
                     "{} taken, {} named, {} in flight", taken, slots, io_.slots_in_flight());
  const uint64_t frames = vm_.count(PageState::kResident) + vm_.count(PageState::kSealed) +
                          vm_.count(PageState::kLoose);
  const uint64_t reserved = io_.frames_reserved() + away_.frames_reserved();
  BALLAST_CHECK_THAT(vm_.charged_frames == frames + reserved,
                     "charged {} frames, entries {}, reads and remappings {}", vm_.charged_frames,
                     frames, reserved);
}

}  // namespace ballast::engine
