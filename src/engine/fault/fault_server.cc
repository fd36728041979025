#include "engine/fault/fault_server.h"

#include <algorithm>

#include "engine/sample/active_sampler.h"
#include "engine/share/away.h"

namespace ballast::engine {

namespace {

constexpr size_t kWaitingMax = 256;
// First touches: 16 pages an answer almost hide the round trip (a boot raises ~30 000 of them);
// walks get up to 64.
constexpr uint32_t kZeroFillPages = 16;
constexpr uint32_t kZeroFillPagesMax = 64;
// When memory is short every page that nobody asked for makes reclaim work.
constexpr uint32_t kZeroFillPagesShort = 4;
// One continuation may be chance, more in a row are a walk.
constexpr uint32_t kWalkSteps = 2;
// Events in a second that say that an away page is missing: each thread of QEMU may raise one when
// a page it sleeps on is mapped; a page that is not mapped raises tens of thousands.
constexpr uint32_t kLateEventsMax = 2000;

bool fillable(PageState state) {
  return state == PageState::kUntouched || state == PageState::kZero ||
         state == PageState::kBallooned;
}

}  // namespace

FaultServer::FaultServer(Vm& vm, SwapIo& io, BringBack& bring_back)
    : vm_(vm), io_(io), bring_back_(bring_back) {
  waiting_.reserve(kWaitingMax);
}

void FaultServer::serve(const machine::Fault& fault) {
  if (vm_.gone) return;
  ++vm_.counters.faults;
  vm_.sampler->note_fault(fault.page);
  const Answer given = answer(fault);
  if (given != Answer::kServed) wait(fault, given);
}

Nanoseconds FaultServer::waiting_since() const {
  for (const Waiting& waiting : waiting_) {
    if (waiting.why == Answer::kNoMemory) return waiting.since;
  }
  return 0;
}

void FaultServer::wait(const machine::Fault& fault, Answer why) {
  for (const Waiting& waiting : waiting_) {
    if (waiting.fault.page == fault.page) return;
  }
  ++vm_.counters.waits;
  if (waiting_.size() == kWaitingMax) {
    dropped_ = true;
    return;
  }
  waiting_.push_back({fault, vm_.clock.now(), why});
}

bool FaultServer::retry_waiting() {
  size_t kept = 0;
  for (size_t i = 0; i < waiting_.size(); ++i) {
    if (vm_.gone) continue;
    waiting_[i].why = answer(waiting_[i].fault);
    if (waiting_[i].why != Answer::kServed) waiting_[kept++] = waiting_[i];
  }
  const bool any = kept < waiting_.size();
  waiting_.resize(kept);
  if (dropped_ && waiting_.empty()) {
    dropped_ = false;
    if (vm_.memory.wake({PageIndex(0), vm_.tables.page_count()}) == machine::MemoryResult::kGone) {
      vm_.gone = true;
    }
  }
  return any;
}

FaultServer::Answer FaultServer::answer(const machine::Fault& fault) {
  const PageIndex page = fault.page;
  BALLAST_CHECK(page.raw() < vm_.tables.page_count());
  vm_.take_discard(page);
  switch (vm_.state(page)) {
    case PageState::kUntouched:
    case PageState::kZero:
    case PageState::kBallooned:
      return fill_zero(page);
    case PageState::kResident:
    case PageState::kSealed:
      return fault.kind == machine::FaultKind::kMissing ? fill_hole(page) : let_write(page);
    case PageState::kCompressed:
      return unzip(page);
    case PageState::kSwapped:
      return swap_in(fault);
    case PageState::kLost:
      vm_.control.freeze(kPageIsLost);
      return Answer::kServed;
    case PageState::kShared:
    case PageState::kLoose:
      return fault.kind == machine::FaultKind::kSealed ? break_shared(page) : touch_away(page);
  }
  return Answer::kServed;
}

uint32_t FaultServer::reach(uint32_t steps, uint32_t first, uint32_t most) const {
  return std::min(most, first << (2 * steps));
}

// What a walk brings in ahead is touched in a moment, without an event.
void FaultServer::note_walk(uint32_t steps, PageRun run) {
  if (steps >= kWalkSteps) vm_.sampler->note_walk(run);
}

bool FaultServer::install_stopped(machine::InstallStop stop, PageIndex at) {
  if (stop == machine::InstallStop::kGone) vm_.gone = true;
  if (stop != machine::InstallStop::kAlreadyPresent) return false;
  // What is in the RAM file is the truth, whatever else was stored.
  const PageEntry old = vm_.get(at);
  vm_.set(at, PageEntry::plain(PageState::kResident).with_in_flight(old.in_flight()));
  vm_.release_copy(old);
  if (vm_.memory.wake({at, 1}) == machine::MemoryResult::kGone) vm_.gone = true;
  return true;
}

FaultServer::Answer FaultServer::fill_zero(PageIndex page) {
  // Neighbours that were given up may be the balloon's own: frames there are for nobody, and count
  // as the guest's use, for which the balloon grows. But what it lets go is touched in runs.
  const bool plenty = vm_.ledger.free() > vm_.ledger.stop_level() && !vm_.orders.ballooned();
  const uint32_t steps = streams_.steps_at(page);
  const uint32_t reach_pages = reach(steps, plenty ? kZeroFillPages : kZeroFillPagesShort,
                                     plenty ? kZeroFillPagesMax : kZeroFillPages);
  // A random touch gets its aligned block (the guest's neighbours come from both sides), a walk
  // what lies ahead.
  uint32_t first = page.raw();
  const uint32_t block = first / reach_pages * reach_pages;
  while (first > block && fillable(vm_.state(PageIndex(first - 1)))) --first;
  const uint32_t limit = std::min(page.raw() + reach_pages, vm_.tables.page_count());
  uint32_t end = page.raw() + 1;
  while (end < limit && end - first < reach_pages && fillable(vm_.state(PageIndex(end)))) ++end;

  uint32_t frames = vm_.charge_frames(end - first);
  if (frames == 0) return Answer::kNoMemory;
  if (frames < end - first) first = page.raw();  // the page that is waited for comes first
  PageRun run{PageIndex(first), std::min(frames, end - first)};
  if (frames > run.count) vm_.uncharge_frames(frames - run.count);
  for (uint32_t i = 0; i < run.count; ++i) vm_.take_discard(run.first + i);

  streams_.served_until(run.end());
  note_walk(steps, run);
  while (run.count > 0) {
    const auto result = vm_.memory.install_zero(run);
    for (uint32_t i = 0; i < result.installed; ++i) {
      const PageIndex at = run.first + i;
      vm_.set(at, vm_.get(at).moved_to(PageState::kResident));
    }
    vm_.counters.first_touches += result.installed;
    run = {run.first + result.installed, run.count - result.installed};
    if (result.stop == machine::InstallStop::kDone) break;
    if (!install_stopped(result.stop, run.first)) {
      vm_.uncharge_frames(run.count);
      return vm_.gone || !run.contains(page) ? Answer::kServed : Answer::kLater;
    }
    run = {run.first + 1, run.count - 1};
  }
  return Answer::kServed;
}

// A touch of a page that should have a frame: a stale event, or the guest discarded the page and
// touched it again before its bit was seen. The RAM file decides: a hole there is zeros.
FaultServer::Answer FaultServer::fill_hole(PageIndex page) {
  const auto result = vm_.memory.install_zero({page, 1});
  if (result.stop == machine::InstallStop::kGone) {
    vm_.gone = true;
    return Answer::kServed;
  }
  if (result.stop == machine::InstallStop::kRetry) return Answer::kLater;
  if (result.installed == 1) {
    const PageEntry entry = vm_.get(page);
    vm_.set(page, PageEntry::plain(PageState::kResident).with_in_flight(entry.in_flight()));
    vm_.release_copy(entry);
  } else if (vm_.memory.wake({page, 1}) == machine::MemoryResult::kGone) {
    vm_.gone = true;
  }
  return Answer::kServed;
}

FaultServer::Answer FaultServer::let_write(PageIndex page) {
  const uint32_t limit =
      std::min(reach(streams_.steps_at(page), 1, kRunPages), vm_.tables.page_count() - page.raw());
  PageRun run{page, 0};
  while (run.count < limit && has_frame(vm_.state(run.end()))) ++run.count;
  for (uint32_t i = 0; i < run.count; ++i) {
    vm_.set(page + i, vm_.get(page + i).moved_to(PageState::kResident));
  }
  streams_.served_until(run.end());
  if (vm_.memory.unseal(run) == machine::MemoryResult::kGone) vm_.gone = true;
  return Answer::kServed;
}

FaultServer::Answer FaultServer::break_shared(PageIndex page) {
  const uint32_t steps = streams_.steps_at(page);
  const auto passes = vm_.away->let_write(page, reach(steps, 1, kRunPages));
  streams_.served_until(page + 1);
  switch (passes) {
    case Away::Write::kPasses:
      return Answer::kServed;
    case Away::Write::kNoMemory:
      return Answer::kNoMemory;
    case Away::Write::kLater:
      return Answer::kLater;
  }
  return Answer::kServed;
}

// There is no hole where a page is away: the event is stale, or the guest has given the page up and
// touches it again. Then it comes home first.
// The kernel maps frames of the pool without asking: such an event is late, and its sleeper finds
// the page when it looks again. Unless the VM's process did not map what it said it did.
FaultServer::Answer FaultServer::touch_away(PageIndex page) {
  if (vm_.get(page).in_flight()) return Answer::kLater;
  if (vm_.discard_bit(page)) {
    return vm_.away->bring_home(page) ? Answer::kLater : Answer::kNoMemory;
  }
  const Nanoseconds now = vm_.clock.now();
  if (now - late_since_ > kSecond) {
    late_since_ = now;
    late_events_ = 0;
  }
  if (++late_events_ > kLateEventsMax) return quarantine(page);
  if (vm_.memory.wake({page, 1}) == machine::MemoryResult::kGone) vm_.gone = true;
  return Answer::kServed;
}

// Nothing false is given to the VM, and nobody else has anything of it: the pool is read-only to
// its process, and a frame stays what it is.
FaultServer::Answer FaultServer::quarantine(PageIndex page) {
  late_events_ = 0;
  vm_.control.freeze("its process did not map shared pages as it was told; see ballast events");
  vm_.control.event(
      machine::Severity::kError, "agent.lied",
      fmt::format(
          "{} is paused: its process said that page {} is mapped to a shared frame, but the "
          "page is missing. It runs something else than Ballast's agent, or the agent is "
          "damaged; other VMs are not touched. Power it off; find out what it runs",
          vm_.spec.name, page.raw()));
  return Answer::kServed;
}

FaultServer::Answer FaultServer::unzip(PageIndex page) {
  bring_back_.note_miss(page);
  const uint32_t steps = streams_.steps_at(page);
  const uint32_t limit = std::min(reach(steps, 1, kRunPages), vm_.tables.page_count() - page.raw());
  uint32_t count = 1;
  while (count < limit && vm_.state(page + count) == PageState::kCompressed &&
         !vm_.discard_bit(page + count)) {
    ++count;
  }
  const uint32_t charged = vm_.charge_frames(count);
  if (charged == 0) return Answer::kNoMemory;
  PageRun run{page, charged};
  for (uint32_t i = 0; i < run.count; ++i) {
    const PageEntry entry = vm_.get(page + i);
    if (Codec::decompress(vm_.zip.get(entry.arena_offset(), entry.compressed_length()),
                          vm_.scratch.page(i))) {
      continue;
    }
    if (i > 0) {  // its own fault will tell
      vm_.uncharge_frames(run.count - i);
      run.count = i;
      break;
    }
    vm_.uncharge_frames(run.count);
    vm_.set(page, PageEntry::plain(PageState::kLost).with_in_flight(entry.in_flight()));
    vm_.release_copy(entry);
    vm_.control.freeze(kPageIsLost);
    vm_.control.event(machine::Severity::kError, "page.lost",
                      fmt::format("{} is paused: page {} in its compression cache is damaged",
                                  vm_.spec.name, page.raw()));
    return Answer::kServed;
  }
  streams_.served_until(run.end());
  note_walk(steps, run);
  uint32_t done = 0;
  while (done < run.count) {
    const auto result =
        vm_.memory.install({page + done, run.count - done}, vm_.scratch.run(done, run.count - done),
                           machine::Sealing::kWritable);
    for (uint32_t i = 0; i < result.installed; ++i) {
      const PageIndex at = page + done + i;
      const PageEntry old = vm_.get(at);
      vm_.set(at, PageEntry::plain(PageState::kResident).with_in_flight(old.in_flight()));
      vm_.release_copy(old);
    }
    vm_.counters.unzips += result.installed;
    done += result.installed;
    if (result.stop == machine::InstallStop::kDone) break;
    if (!install_stopped(result.stop, page + done)) {
      vm_.uncharge_frames(run.count - done);
      return vm_.gone || done > 0 ? Answer::kServed : Answer::kLater;
    }
    ++done;
  }
  return Answer::kServed;
}

FaultServer::Answer FaultServer::swap_in(const machine::Fault& fault) {
  bring_back_.note_miss(fault.page);
  const uint32_t steps = streams_.steps_at(fault.page);
  const uint32_t window = reach(steps, 1, kRunPages);
  note_walk(steps, {fault.page, std::min(window, vm_.tables.page_count() - fault.page.raw())});
  const auto start = io_.start_read(fault.page, fault.write, window);
  streams_.served_until(fault.page + 1);
  switch (start) {
    case SwapIo::ReadStart::kStarted:
    case SwapIo::ReadStart::kAlreadyLoading:
      return Answer::kServed;  // the completion wakes the sleepers
    case SwapIo::ReadStart::kNoMemory:
      return Answer::kNoMemory;
    case SwapIo::ReadStart::kBusy:
      return Answer::kLater;
  }
  return Answer::kServed;
}

}  // namespace ballast::engine
