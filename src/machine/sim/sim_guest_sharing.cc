// Sharing in SimGuestMemory: what the library in QEMU does with the engine's requests, and what
// the kernel does with pages that are away.
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "machine/sim/sim_guest_memory.h"

namespace ballast::machine::sim {

namespace {

constexpr size_t kOutstandingMax = 64;

const char* name_of(Remapped::Kind kind) {
  return kind == Remapped::Kind::kShare ? "share" : "home";
}

}  // namespace

// ---- the engine asks

bool SimGuestMemory::start_share(PageRun run, FrameIndex first) {
  Remap remap;
  remap.kind = Remapped::Kind::kShare;
  remap.run = run;
  remap.first = first;
  return ask(remap);
}

bool SimGuestMemory::start_home(PageRun run) {
  Remap remap;
  remap.kind = Remapped::Kind::kHome;
  remap.run = run;
  return ask(remap);
}

bool SimGuestMemory::ask(Remap remap) {
  BALLAST_CHECK(can_share() && remap.run.count <= kRemapPagesMax);
  if (enter(remap.kind == Remapped::Kind::kShare ? "share?" : "home?", remap.run)) return false;
  if (remaps_lost_ || remaps_.size() >= kOutstandingMax) return false;
  if (world_.chance(options_.busy_remaps)) return false;
  if (remap.kind == Remapped::Kind::kShare) {
    for (uint32_t i = 0; i < remap.run.count; ++i) {
      const PageIndex at = remap.run.first + i;
      check_settled(at, "shared", false);
      BALLAST_CHECK_THAT(!away(at), "page {} of VM {} is to be shared, but it is away", at.raw(),
                         vm_);
      if (discard_bit(at) || page(at).released) {
        remap.given_up |= remap.bit(at);  // will be refused, or is the guest's own loss
      } else {
        check_shareable(at, remap.first + i);
      }
    }
    // From here on nobody may change the frames: it can happen at any moment.
    for (uint32_t i = 0; i < remap.run.count; ++i) pool_->hold(remap.first + i);
  }
  const uint64_t latest = world_.chance(options_.slow_remaps) ? 20000 : 100;
  remap.due = world_.peek() + world_.random().between(0, latest) * kMicrosecond;
  remaps_.push_back(remap);
  world_.point();
  return true;
}

bool SimGuestMemory::poll_remapped(Remapped& end) {
  if (world_.abandoned()) return false;
  world_.point(50);
  step_remaps();
  if (remaps_.empty() || !remaps_.front().ended) return false;
  const Remap& remap = remaps_.front();
  end = {remap.kind, remap.run, remap.done, remap.written};
  world_.note("remapped", vm_, remap.run.first.raw(), remap.done ? 1 : 0);
  remaps_.pop_front();
  return true;
}

bool SimGuestMemory::remaps_lost() {
  if (world_.abandoned() || !remaps_lost_ || world_.peek() < link_back_) return false;
  remaps_lost_ = false;
  return true;
}

// ---- what the engine must not do

bool SimGuestMemory::discard_bit(PageIndex index) const {
  return (discard_bits_[index.raw() / 64].load() >> (index.raw() % 64) & 1) != 0;
}

void SimGuestMemory::check_shareable(PageIndex index, FrameIndex frame) const {
  const Page& at = pages_[index.raw()];
  BALLAST_CHECK_THAT(at.frame != nullptr, "page {} of VM {} is to be shared, but it is a hole",
                     index.raw(), vm_);
  BALLAST_CHECK_THAT(at.sealed || world_.bugs.seal_leaks,
                     "page {} of VM {} is to be shared, but it is not sealed", index.raw(), vm_);
  BALLAST_CHECK_THAT(std::memcmp(at.frame.get(), pool_->bytes(frame).data(), kPageBytes) == 0,
                     "page {} of VM {} differs from frame {}", index.raw(), vm_, frame.raw());
}

void SimGuestMemory::note_given_up(PageIndex page) {
  for (Remap& remap : remaps_) {
    if (remap.run.contains(page)) remap.given_up |= remap.bit(page);
  }
}

const SimGuestMemory::Remap* SimGuestMemory::remap_of(PageIndex page, bool unless_given_up) const {
  for (const Remap& remap : remaps_) {
    if (!remap.run.contains(page)) continue;
    if (!unless_given_up || (remap.given_up & remap.bit(page)) == 0) return &remap;
  }
  return nullptr;
}

void SimGuestMemory::check_settled(PageIndex page, const char* what, bool unless_given_up) const {
  const Remap* const remap = remap_of(page, unless_given_up);
  BALLAST_CHECK_THAT(remap == nullptr, "page {} of VM {} is {} before its {} has ended", page.raw(),
                     vm_, what, name_of(remap->kind));
}

// A page that is away has something mapped already, so only a guest that marked it for discarding
// may see this. A share that was asked for can still take the place of what is installed.
bool SimGuestMemory::refuses_install(PageIndex index) const {
  const Page& at = pages_[index.raw()];
  BALLAST_CHECK_THAT(at.away == nullptr || at.away->given_up,
                     "page {} of VM {} is installed, but it is away", index.raw(), vm_);
  const Remap* const remap = remap_of(index, false);
  BALLAST_CHECK_THAT(remap == nullptr || remap->kind == Remapped::Kind::kHome || remap->ended,
                     "page {} of VM {} is installed before its share has ended", index.raw(), vm_);
  return at.away != nullptr;
}

// ---- the VM's side carries it out

void SimGuestMemory::step_remaps() {
  if (life_ != world_.life()) {
    // A new daemon: what its predecessor had asked was carried out before it connected, or never.
    life_ = world_.life();
    remaps_lost_ = false;
    if (!remaps_.empty()) drop_remaps(some_remaps());
  }
  const auto next =
      std::find_if(remaps_.begin(), remaps_.end(), [](const Remap& remap) { return !remap.ended; });
  if (dead_ || next == remaps_.end() || next->due > world_.peek()) return;
  if (!next->begun() && world_.chance(options_.lost_links)) return lose_link();
  step(*next);
}

void SimGuestMemory::lose_link() {
  if (remaps_.empty()) return;
  drop_remaps(some_remaps());
  remaps_lost_ = true;
  link_back_ = world_.peek() + world_.random().between(0, 20) * kMillisecond;
}

void SimGuestMemory::step(Remap& remap) {
  if (remap.kind == Remapped::Kind::kShare) {
    step_share(remap);
  } else {
    step_home(remap);
  }
}

// The new mapping is there before it is registered and write-protected: writes pass meanwhile, but
// they can only make private copies.
void SimGuestMemory::step_share(Remap& remap) {
  if (remap.step++ > 0) {
    for (uint32_t i = 0; i < remap.run.count; ++i) {
      Away& mapped = *page(remap.run.first + i).away;
      mapped.sealed = true;
      if (mapped.copy) remap.written |= uint64_t{1} << i;
    }
    return end(remap, true);
  }
  bool refused = world_.chance(options_.refused_remaps);
  for (uint32_t i = 0; i < remap.run.count; ++i) refused |= discard_bit(remap.run.first + i);
  if (refused) return end(remap, false);
  for (uint32_t i = 0; i < remap.run.count; ++i) {
    const PageIndex at = remap.run.first + i;
    if ((remap.given_up & remap.bit(at)) == 0) check_shareable(at, remap.first + i);
    page(at).away = std::make_unique<Away>(Away{remap.first + i, nullptr, false, false});
    page(at).sealed = false;  // a mark of the mapping that is no more
    page(at).sample = Sample::kNone;
  }
  const bool slips = world_.chance(options_.slips);
  remap.due =
      world_.peek() +
      (slips ? world_.random().between(100, 2000) : world_.random().between(1, 20)) * kMicrosecond;
  if (slips) wake_sleepers(remap.run);  // as a signal does
}

// Seal, copy what is mapped into the RAM file, map that. The new mapping has no marks.
void SimGuestMemory::step_home(Remap& remap) {
  if (remap.step == 0) {
    const bool refused = world_.chance(options_.refused_remaps);
    for (PageIndex at = remap.run.first; at < remap.run.end(); ++at) {
      if (away(at)) page(at).away->sealed = true;
    }
    if (refused) return end(remap, false);
    remap.step = 1;
    return;
  }
  if (copy_home(remap)) return;
  for (PageIndex at = remap.run.first; at < remap.run.end(); ++at) {
    if (away(at)) bring_home(page(at));
  }
  end(remap, true);
}

// Copies a few more pages. False: all of the run had been copied.
bool SimGuestMemory::copy_home(Remap& remap) {
  const uint32_t copied = remap.step - 1;
  if (copied == remap.run.count) return false;
  const uint32_t more =
      std::min(remap.run.count - copied, static_cast<uint32_t>(world_.random().between(1, 8)));
  for (uint32_t i = copied; i < copied + more; ++i) {
    Page& to = page(remap.run.first + i);
    if (!to.away) continue;
    if (!to.frame) add_frame(to);
    const std::byte* from = touch_away(*to.away, false);
    std::memcpy(to.frame.get(), from, kPageBytes);
    world_.grown();
  }
  remap.step += more;
  return true;
}

void SimGuestMemory::finish(Remap& remap) {
  while (!remap.ended) step(remap);
}

void SimGuestMemory::end(Remap& remap, bool done) {
  remap.ended = true;
  remap.done = done;
  if (remap.kind == Remapped::Kind::kShare && !done) {
    for (uint32_t i = 0; i < remap.run.count; ++i) pool_->let_go(remap.first + i);
  }
  world_.note(name_of(remap.kind), vm_, remap.run.first.raw(), done ? remap.run.count : 0);
}

// How many of the requests without an end are carried out although nobody will hear of it.
uint32_t SimGuestMemory::some_remaps() {
  return world_.random().below(static_cast<uint32_t>(remaps_.size()) + 1);
}

void SimGuestMemory::drop_remaps(uint32_t carried_out) {
  for (Remap& remap : remaps_) {
    if (remap.ended) continue;
    const bool begun = remap.begun();
    if (begun || (carried_out > 0 && !dead_)) {
      finish(remap);
    } else {
      end(remap, false);
    }
    carried_out -= carried_out > 0 ? 1 : 0;
  }
  remaps_.clear();
}

// ---- pages that are away

std::byte* SimGuestMemory::touch_away(Away& away, bool write) {
  if (write && !away.copy && world_.bugs.shared_writes && world_.random().chance(100)) {
    pool_->expose(away.frame);
  } else if (write && !away.copy) {
    away.copy = std::make_unique_for_overwrite<std::byte[]>(kPageBytes);
    std::memcpy(away.copy.get(), pool_->bytes(away.frame).data(), kPageBytes);
    ++private_copies_;
    ++frames_;
    world_.frames_changed(1);
    world_.grown();
  }
  return away.copy ? away.copy.get() : pool_->bytes(away.frame).data();
}

// The RAM file is mapped again; what was mapped instead is gone.
void SimGuestMemory::bring_home(Page& page) {
  if (page.away->copy) {
    --private_copies_;
    --frames_;
    world_.frames_changed(-1);
  }
  pool_->let_go(page.away->frame);
  page.away.reset();
  page.sealed = false;
}

// Its process ends: mappings and private copies go, the RAM file stays until we close it.
void SimGuestMemory::die() {
  dead_ = true;
  for (Page& page : pages_) {
    if (page.away) bring_home(page);
  }
  // The holds of a share that had begun went with its pages.
  for (Remap& remap : remaps_) {
    if (remap.kind == Remapped::Kind::kShare && !remap.ended && !remap.begun()) end(remap, false);
  }
  remaps_.clear();
}

}  // namespace ballast::machine::sim
