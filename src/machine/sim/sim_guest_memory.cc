#include "machine/sim/sim_guest_memory.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace ballast::machine::sim {

namespace {

// The last frame that any VM gave back: what a kernel that forgot to clear would hand out next.
std::vector<std::byte>& last_freed_frame() {
  static std::vector<std::byte> frame(kPageBytes);
  return frame;
}

}  // namespace

SimGuestMemory::SimGuestMemory(SimWorld& world, uint32_t vm, SimMemoryOptions options)
    : world_(world),
      vm_(vm),
      options_(options),
      pages_(options.page_count),
      discard_bits_((options.page_count + 63) / 64),
      life_(world.life()) {}

SimGuestMemory::~SimGuestMemory() {
  die();
  world_.frames_changed(-int64_t{frames_});
}

void SimGuestMemory::check_run(PageRun run) const {
  BALLAST_CHECK_THAT(run.count > 0 && run.first.raw() < options_.page_count &&
                         run.count <= options_.page_count - run.first.raw(),
                     "pages {}+{} of a VM of {}", run.first.raw(), run.count, options_.page_count);
}

bool SimGuestMemory::enter(const char* what, PageRun run, bool file_call) {
  check_run(run);
  if (world_.abandoned()) return true;
  world_.note(what, vm_, run.first.raw(), run.count);
  world_.point();
  step_remaps();
  return dead_ && !(file_call && options_.reads_survive_death);
}

void SimGuestMemory::add_frame(Page& page) {
  page.frame = std::make_unique_for_overwrite<std::byte[]>(kPageBytes);
  page.sample = Sample::kNone;
  page.released = false;
  ++frames_;
  world_.frames_changed(1);
}

void SimGuestMemory::drop_frame(Page& page) {
  if (page.frame == nullptr) return;
  if (world_.bugs.dirty_frames) {
    std::memcpy(last_freed_frame().data(), page.frame.get(), kPageBytes);
  }
  page.frame.reset();
  page.sample = Sample::kNone;
  --frames_;
  world_.frames_changed(-1);
}

void SimGuestMemory::wake_sleepers(PageRun run) {
  std::erase_if(sleepers_, [run](const Sleeper& sleeper) { return run.contains(sleeper.page); });
}

void SimGuestMemory::raise(Fault fault) {
  faults_.push_back(fault);
  if (world_.chance(options_.duplicate_events)) faults_.push_back(fault);
  if (world_.chance(options_.stale_events)) {
    faults_.push_back({PageIndex(world_.random().below(options_.page_count)),
                       world_.random().chance(500) ? FaultKind::kMissing : FaultKind::kSealed,
                       world_.random().chance(500)});
  }
}

MemoryResult SimGuestMemory::seal(PageRun run) {
  if (enter("seal", run)) return world_.abandoned() ? MemoryResult::kOk : MemoryResult::kGone;
  for (PageIndex at = run.first; at < run.end(); ++at) {
    bool& sealed = page(at).away ? page(at).away->sealed : page(at).sealed;
    sealed = !(world_.bugs.seal_leaks && world_.random().chance(200));
    world_.point(50);
  }
  return MemoryResult::kOk;
}

MemoryResult SimGuestMemory::unseal(PageRun run) {
  if (enter("unseal", run)) return world_.abandoned() ? MemoryResult::kOk : MemoryResult::kGone;
  for (PageIndex at = run.first; at < run.end(); ++at) {
    check_settled(at, "unsealed", false);
    (page(at).away ? page(at).away->sealed : page(at).sealed) = false;
    world_.point(50);
  }
  wake_sleepers(run);
  world_.point();
  return MemoryResult::kOk;
}

MemoryResult SimGuestMemory::read(PageRun run, std::span<std::byte> into) {
  BALLAST_CHECK_THAT(into.size() == size_t{run.count} * kPageBytes, "{} pages into {} bytes",
                     run.count, into.size());
  if (enter("read", run, true)) return world_.abandoned() ? MemoryResult::kOk : MemoryResult::kGone;
  for (uint32_t i = 0; i < run.count; ++i) {
    const Page& from = page(run.first + i);
    std::byte* to = into.data() + size_t{i} * kPageBytes;
    if (from.frame) {
      // In two halves with a point between: an unsealed page may be written in the middle of a
      // copy.
      std::memcpy(to, from.frame.get(), kPageBytes / 2);
      world_.point(50);
    } else {
      std::memset(to, 0, kPageBytes / 2);
    }
    if (from.frame) {
      std::memcpy(to + kPageBytes / 2, from.frame.get() + kPageBytes / 2, kPageBytes / 2);
    } else {
      std::memset(to + kPageBytes / 2, 0, kPageBytes / 2);
    }
    world_.point(50);
  }
  return MemoryResult::kOk;
}

MemoryResult SimGuestMemory::discard(PageRun run) {
  if (enter("discard", run, true)) {
    return world_.abandoned() ? MemoryResult::kOk : MemoryResult::kGone;
  }
  for (PageIndex at = run.first; at < run.end(); ++at) {
    check_settled(at, "discarded", true);
    drop_frame(page(at));
    world_.point(50);
  }
  return MemoryResult::kOk;
}

InstallResult SimGuestMemory::install_pages(PageRun run, std::span<const std::byte> contents,
                                            bool sealed) {
  InstallResult result;
  for (uint32_t i = 0; i < run.count; ++i) {
    if (world_.chance(options_.retries)) {
      result.stop = InstallStop::kRetry;
      return result;
    }
    Page& to = page(run.first + i);
    if (refuses_install(run.first + i) || to.frame) {
      result.stop = InstallStop::kAlreadyPresent;
      return result;
    }
    add_frame(to);
    to.sealed = sealed;
    if (contents.empty()) {
      std::memset(to.frame.get(), 0, kPageBytes);
      if (world_.bugs.dirty_frames && world_.random().chance(100)) {
        std::memcpy(to.frame.get(), last_freed_frame().data(), kPageBytes);
      }
    } else {
      std::memcpy(to.frame.get(), contents.data() + size_t{i} * kPageBytes, kPageBytes);
    }
    world_.grown();
    ++result.installed;
    if (!(world_.bugs.lost_wakes && world_.random().chance(50))) {
      wake_sleepers({run.first + i, 1});
    }
    world_.point(300);
    if (dead_) {
      result.stop = result.installed == run.count ? InstallStop::kDone : InstallStop::kGone;
      return result;
    }
  }
  return result;
}

InstallResult SimGuestMemory::install(PageRun run, std::span<const std::byte> contents,
                                      Sealing sealing) {
  BALLAST_CHECK_THAT(contents.size() == size_t{run.count} * kPageBytes, "{} pages from {} bytes",
                     run.count, contents.size());
  if (enter("install", run)) {
    if (world_.abandoned()) return {run.count, InstallStop::kDone};
    return {0, InstallStop::kGone};
  }
  return install_pages(run, contents, sealing == Sealing::kSealed);
}

InstallResult SimGuestMemory::install_zero(PageRun run) {
  if (enter("zero", run)) {
    if (world_.abandoned()) return {run.count, InstallStop::kDone};
    return {0, InstallStop::kGone};
  }
  return install_pages(run, {}, false);
}

MemoryResult SimGuestMemory::wake(PageRun run) {
  if (enter("wake", run)) return world_.abandoned() ? MemoryResult::kOk : MemoryResult::kGone;
  wake_sleepers(run);
  world_.point();
  return MemoryResult::kOk;
}

MemoryResult SimGuestMemory::find_present(PageRun run, std::vector<PageRun>& present) {
  if (enter("present", run, true)) {
    return world_.abandoned() ? MemoryResult::kOk : MemoryResult::kGone;
  }
  PageRun open{run.first, 0};
  for (PageIndex at = run.first; at < run.end(); ++at) {
    if (page(at).frame == nullptr) continue;
    if (open.count > 0 && open.end() == at) {
      ++open.count;
    } else {
      if (open.count > 0) present.push_back(open);
      open = {at, 1};
    }
  }
  if (open.count > 0) present.push_back(open);
  world_.point();
  return MemoryResult::kOk;
}

bool SimGuestMemory::start_sample(std::span<const PageRun> runs) {
  if (world_.abandoned() || dead_ || !options_.can_sample || samples_refused_) return false;
  for (const PageRun run : runs) {
    check_run(run);
    if (world_.chance(options_.missed_samples)) continue;
    pending_samples_.push_back(
        {world_.peek() + world_.random().between(0, 500) * kMicrosecond, run});
  }
  world_.note("sample", vm_, runs.size());
  world_.point();
  return true;
}

void SimGuestMemory::arm_samples() {
  std::erase_if(pending_samples_, [this](const PendingSample& sample) {
    if (sample.ready > world_.peek()) return false;
    for (PageIndex at = sample.run.first; at < sample.run.end(); ++at) {
      if (page(at).frame && !page(at).away) page(at).sample = Sample::kArmed;
    }
    return true;
  });
}

MemoryResult SimGuestMemory::touched(PageRun run, std::span<uint64_t> bits) {
  BALLAST_CHECK(bits.size() * 64 >= run.count);
  if (enter("touched", run, true)) {
    return world_.abandoned() ? MemoryResult::kOk : MemoryResult::kGone;
  }
  arm_samples();
  std::fill(bits.begin(), bits.end(), ~uint64_t{0});  // bits behind the run mean nothing
  for (uint32_t i = 0; i < run.count; ++i) {
    if (page(run.first + i).sample == Sample::kArmed) bits[i / 64] &= ~(uint64_t{1} << (i % 64));
  }
  world_.point();
  return MemoryResult::kOk;
}

std::byte* SimGuestMemory::touch(uint32_t vcpu, PageIndex index, bool write) {
  BALLAST_CHECK(!asleep(vcpu) && index.raw() < options_.page_count);
  step_remaps();
  if (!pending_samples_.empty()) arm_samples();
  Page& to = page(index);
  const auto intent = std::find(write_intent_.begin(), write_intent_.end(), vcpu);
  const bool as_write = write || intent != write_intent_.end();
  const bool missing = to.frame == nullptr && !to.away;
  if (missing || (as_write && (to.away ? to.away->sealed : to.sealed))) {
    const FaultKind kind = missing ? FaultKind::kMissing : FaultKind::kSealed;
    if (options_.async_faults && intent == write_intent_.end()) write_intent_.push_back(vcpu);
    sleepers_.push_back({vcpu, index});
    raise({index, kind, as_write || options_.async_faults});
    world_.note(kind == FaultKind::kMissing ? "miss" : "trap", vm_, index.raw(), vcpu);
    return nullptr;
  }
  if (intent != write_intent_.end()) write_intent_.erase(intent);
  if (to.away) return touch_away(*to.away, as_write);
  if (to.sample == Sample::kArmed) to.sample = Sample::kTouched;
  return to.frame.get();
}

bool SimGuestMemory::asleep(uint32_t vcpu) const { return waits_for(vcpu).has_value(); }

std::optional<PageIndex> SimGuestMemory::waits_for(uint32_t vcpu) const {
  for (const Sleeper& sleeper : sleepers_) {
    if (sleeper.vcpu == vcpu) return sleeper.page;
  }
  return std::nullopt;
}

void SimGuestMemory::release(PageIndex index) {
  // Remapping and the guest's discards exclude each other.
  for (Remap& remap : remaps_) {
    if (remap.begun()) finish(remap);
  }
  if (away(index)) bring_home(page(index));
  drop_frame(page(index));
  page(index).released = true;
  note_given_up(index);
  world_.note("release", vm_, index.raw());
}

void SimGuestMemory::set_discard_bit(PageIndex index) {
  discard_bits_[index.raw() / 64].fetch_or(uint64_t{1} << (index.raw() % 64));
  if (away(index)) page(index).away->given_up = true;
  note_given_up(index);
}

std::vector<Fault> SimGuestMemory::take_faults(size_t limit) {
  std::vector<Fault> taken;
  while (taken.size() < limit && !faults_.empty()) {
    size_t at = 0;
    if (world_.chance(options_.reordering)) {
      at = world_.random().below(static_cast<uint32_t>(faults_.size()));
    }
    taken.push_back(faults_[at]);
    faults_.erase(faults_.begin() + static_cast<std::ptrdiff_t>(at));
  }
  if (!sleepers_.empty() && world_.chance(options_.spurious_wakes))
    sleepers_.erase(sleepers_.begin());
  return taken;
}

}  // namespace ballast::machine::sim
