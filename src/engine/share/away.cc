#include "engine/share/away.h"

#include <algorithm>

#include "engine/sample/active_sampler.h"

namespace ballast::engine {

namespace {

constexpr uint32_t kRunMax = machine::GuestMemory::kRemapPagesMax;
static_assert(kRunMax <= 64);  // Remapped::written
// How long a broken page waits for company before it goes home, and how many end the wait.
constexpr Nanoseconds kCompany = 20 * kMillisecond;
constexpr size_t kCompanyPages = 64;
constexpr Nanoseconds kRetryHome = 100 * kMillisecond;

}  // namespace

Away::Away(Vm& vm, ShareGroup* group, uint64_t mappings_max)
    : vm_(vm), group_(group), mappings_max_(mappings_max) {
  if (group_ != nullptr) loose_.reserve(kLooseMax);
}

Away::~Away() {
  if (group_ == nullptr) return;
  FrameRun frames;
  for (uint32_t index = 0; vm_.gone && index < vm_.tables.page_count(); ++index) {
    const PageEntry entry = vm_.get(PageIndex(index));
    if (is_away(entry.state())) give_back(entry.frame(), frames);
  }
  group_->unreference(frames);
  group_->add_shared(-static_cast<int64_t>(vm_.count(PageState::kShared)));
}

bool Away::can_send() const {
  return group_ != nullptr && vm_.memory.can_share() && asked_.size() < kAskedMax && !vm_.gone &&
         has_mappings();
}

uint32_t Away::reserve(uint32_t frames, bool for_reclaim) {
  for (; frames > 0; frames /= 2) {
    const uint64_t bytes = pages_to_bytes(frames);
    if (for_reclaim ? vm_.ledger.try_charge_for_reclaim(bytes) : vm_.ledger.try_charge(bytes))
      break;
  }
  vm_.charged_frames += frames;
  reserved_ += frames;
  return frames;
}

void Away::give_back(uint32_t frames) {
  reserved_ -= frames;
  vm_.uncharge_frames(frames);
}

// Collects references in `run` while their frames follow each other: freeing costs per call.
void Away::give_back(FrameIndex frame, FrameRun& run) {
  if (run.count == 0 || frame != run.end()) {
    group_->unreference(run);
    run = {frame, 0};
  }
  ++run.count;
}

// Whether the page is mapped otherwise than as the continuation of the page before it.
bool Away::edge(uint32_t page) const {
  if (page == 0 || page >= vm_.tables.page_count()) return false;
  const PageEntry before = vm_.get(PageIndex(page - 1));
  const PageEntry here = vm_.get(PageIndex(page));
  if (is_away(before.state()) != is_away(here.state())) return true;
  return is_away(here.state()) && before.frame() + 1 != here.frame();
}

uint64_t Away::edges_around(PageRun run) const {
  uint64_t edges = 0;
  for (uint32_t page = run.first.raw(); page <= run.end().raw(); ++page)
    edges += edge(page) ? 1 : 0;
  return edges;
}

uint32_t Away::send(PageRun run, FrameIndex first) {
  if (!can_send()) return 0;
  run.count = reserve(std::min(run.count, kRunMax), false);
  if (run.count == 0) return 0;
  edges_ -= edges_around(run);
  for (uint32_t i = 0; i < run.count; ++i) {
    const PageEntry old = vm_.get(run.first + i);
    vm_.set(run.first + i, PageEntry::away(PageState::kLoose, first + i).with_in_flight(true));
    vm_.release_copy(old);
  }
  edges_ += edges_around(run);
  asked_.push_back({machine::Remapped::Kind::kShare, run});
  going_out_ += run.count;
  if (vm_.memory.start_share(run, first)) return run.count;
  // Nobody was asked: as if it had been refused, but for the references.
  asked_.pop_back();
  going_out_ -= run.count;
  give_back(run.count);
  edges_ -= edges_around(run);
  for (uint32_t i = 0; i < run.count; ++i) {
    vm_.set(run.first + i, PageEntry::plain(PageState::kResident));
  }
  edges_ += edges_around(run);
  if (vm_.memory.unseal(run) == machine::MemoryResult::kGone) vm_.gone = true;
  return 0;
}

Away::Write Away::let_write(PageIndex page, uint32_t reach) {
  const PageEntry entry = vm_.get(page);
  if (entry.in_flight()) return Write::kLater;
  PageRun run{page, 1};
  if (entry.state() == PageState::kShared) {
    const uint32_t limit = std::min(reach, vm_.tables.page_count() - page.raw());
    while (run.count < limit && vm_.state(run.end()) == PageState::kShared) ++run.count;
    run.count = vm_.charge_frames(run.count);
    if (run.count == 0) return Write::kNoMemory;
    for (uint32_t i = 0; i < run.count; ++i) {
      vm_.set(run.first + i, vm_.get(run.first + i).moved_to(PageState::kLoose));
    }
    group_->add_shared(-static_cast<int64_t>(run.count));
    vm_.counters.share_breaks += run.count;
    note_loose(run);
  }
  if (vm_.memory.unseal(run) == machine::MemoryResult::kGone) vm_.gone = true;
  return Write::kPasses;
}

bool Away::bring_home(PageIndex page) {
  if (vm_.state(page) == PageState::kShared) {
    if (!vm_.ledger.try_charge_for_reclaim(kPageBytes)) return false;
    ++vm_.charged_frames;
    vm_.set(page, vm_.get(page).moved_to(PageState::kLoose));
    group_->add_shared(-1);
    note_loose({page, 1});
  }
  return true;
}

void Away::note_loose(PageRun run) {
  if (loose_.empty() && !more_loose_) loose_since_ = vm_.clock.now();
  for (uint32_t i = 0; i < run.count; ++i) {
    if (loose_.size() == kLooseMax) {
      more_loose_ = true;
      return;
    }
    loose_.push_back(run.first + i);
  }
}

void Away::find_loose() {
  more_loose_ = false;
  for (uint32_t page = 0; page < vm_.tables.page_count(); ++page) {
    const PageEntry entry = vm_.get(PageIndex(page));
    if (entry.state() != PageState::kLoose || entry.in_flight()) continue;
    if (loose_.size() == kLooseMax) {
      more_loose_ = true;
      return;
    }
    loose_.push_back(PageIndex(page));
  }
}

// The page and its Loose neighbours behind it. False: nothing can be started now.
bool Away::start_home(PageIndex page) {
  if (asked_.size() >= kAskedMax) return false;
  const auto waits = [&](PageIndex at) {
    const PageEntry entry = vm_.get(at);
    return entry.state() == PageState::kLoose && !entry.in_flight();
  };
  if (!waits(page)) return true;  // on its way, or home
  PageRun run{page, 1};
  while (run.count < kRunMax && run.end().raw() < vm_.tables.page_count() && waits(run.end())) {
    ++run.count;
  }
  run.count = reserve(run.count, true);
  if (run.count == 0) return false;
  for (uint32_t i = 0; i < run.count; ++i) {
    vm_.set(run.first + i, vm_.get(run.first + i).with_in_flight(true));
  }
  if (vm_.memory.start_home(run)) {
    asked_.push_back({machine::Remapped::Kind::kHome, run});
    return true;
  }
  for (uint32_t i = 0; i < run.count; ++i) {
    vm_.set(run.first + i, vm_.get(run.first + i).with_in_flight(false));
  }
  give_back(run.count);
  return false;
}

void Away::start_home_of_all() {
  std::ranges::sort(loose_);
  size_t done = 0;
  while (done < loose_.size() && start_home(loose_[done])) ++done;
  loose_.erase(loose_.begin(), loose_.begin() + static_cast<ptrdiff_t>(done));
  if (loose_.empty() && more_loose_) find_loose();
  if (!loose_.empty()) not_before_ = std::max(not_before_, vm_.clock.now() + kMillisecond);
}

void Away::start_home_of_unsure() {
  while (!unsure_.empty() && asked_.size() < kAskedMax && vm_.memory.start_home(unsure_.front())) {
    asked_.push_back({machine::Remapped::Kind::kHome, unsure_.front(), true});
    unsure_.pop_front();
  }
  if (!unsure_.empty()) not_before_ = vm_.clock.now() + kCompany;
}

void Away::turn() {
  if (vm_.gone || group_ == nullptr || vm_.clock.now() < next_due()) return;
  start_home_of_unsure();
  if (loose_.empty() && !more_loose_) return;
  if (loose_.empty()) find_loose();
  start_home_of_all();
}

Nanoseconds Away::next_due() const {
  if (!unsure_.empty()) return not_before_;
  if (loose_.empty() && !more_loose_) return ~Nanoseconds{0};
  const bool enough = loose_.size() >= kCompanyPages || more_loose_;
  return std::max(not_before_, enough ? loose_since_ : loose_since_ + kCompany);
}

bool Away::poll() {
  if (group_ == nullptr || vm_.gone) return false;
  bool any = false;
  machine::Remapped end;
  while (vm_.memory.poll_remapped(end)) {
    any = true;
    BALLAST_CHECK(!asked_.empty() && asked_.front().run == end.run &&
                  asked_.front().kind == end.kind);
    const bool unsure = asked_.front().unsure;
    asked_.pop_front();
    if (unsure && !end.done) {
      be_unsure(end.run);
      not_before_ = vm_.clock.now() + kRetryHome;
      continue;
    }
    if (end.kind == machine::Remapped::Kind::kHome) {
      if (end.done) {
        home(end.run);
      } else {
        settle(end.run);
        not_before_ = vm_.clock.now() + kRetryHome;
      }
    } else {
      going_out_ -= end.run.count;
      if (end.done) {
        shared(end);
      } else {
        home(end.run);  // nothing was changed: they are there already
      }
    }
    give_back(end.run.count);
    take_discards(end.run);
  }
  if (vm_.memory.remaps_lost()) lost();
  return any;
}

// The pages are mapped to their frames; those that were written in between stay Loose.
void Away::shared(const machine::Remapped& end) {
  uint32_t written = 0;
  for (uint32_t i = 0; i < end.run.count; ++i) {
    const PageIndex page = end.run.first + i;
    if ((end.written >> i & 1) != 0) {
      vm_.set(page, vm_.get(page).with_in_flight(false));
      note_loose({page, 1});
      ++written;
    } else {
      vm_.set(page, PageEntry::away(PageState::kShared, vm_.get(page).frame()));
    }
  }
  const uint32_t shared = end.run.count - written;
  group_->add_shared(shared);
  vm_.counters.share_joins += shared;
  if (vm_.memory.discard(end.run) == machine::MemoryResult::kGone) vm_.gone = true;
  vm_.uncharge_frames(shared);
  vm_.sampler->note_gone(end.run);
}

void Away::home(PageRun run) {
  edges_ -= edges_around(run);
  FrameRun frames;
  for (uint32_t i = 0; i < run.count; ++i) {
    const FrameIndex frame = vm_.get(run.first + i).frame();
    vm_.set(run.first + i, PageEntry::plain(PageState::kResident));
    give_back(frame, frames);
  }
  group_->unreference(frames);
  edges_ += edges_around(run);
  if (vm_.memory.unseal(run) == machine::MemoryResult::kGone) vm_.gone = true;
}

// A home-coming failed: the pages are still where they were.
void Away::settle(PageRun run) {
  for (uint32_t i = 0; i < run.count; ++i) {
    vm_.set(run.first + i, vm_.get(run.first + i).with_in_flight(false));
  }
  note_loose(run);
  if (vm_.memory.unseal(run) == machine::MemoryResult::kGone) vm_.gone = true;
}

void Away::lost() {
  for (const Asked& asked : asked_) {
    if (asked.kind == machine::Remapped::Kind::kShare) going_out_ -= asked.run.count;
    be_unsure(asked.run);
  }
  asked_.clear();
}

// Nobody knows where the pages are. Who sleeps there may go on; who sleeps there next waits.
void Away::be_unsure(PageRun run) {
  unsure_.push_back(run);
  if (vm_.memory.unseal(run) == machine::MemoryResult::kGone) vm_.gone = true;
}

// Discards that came while the pages were away are judged now that they are home.
void Away::take_discards(PageRun run) {
  const uint32_t last = (run.end().raw() - 1) / 64;
  for (uint32_t word = run.first.raw() / 64; word <= last && !vm_.gone; ++word) {
    vm_.take_discarded_word(word);
  }
}

void Away::take_over() {
  if (group_ == nullptr) return;
  uint64_t shared = 0;
  for (uint32_t index = 0; index < vm_.tables.page_count(); ++index) {
    const PageEntry entry = vm_.get(PageIndex(index));
    edges_ += edge(index) ? 1 : 0;
    if (entry.state() == PageState::kShared) ++shared;
  }
  group_->add_shared(static_cast<int64_t>(shared));
  more_loose_ = vm_.count(PageState::kLoose) > 0;
  if (more_loose_) find_unsure();
}

// Loose pages with an own frame: it was not freed yet, or is being copied to. There may be a
// private copy besides.
void Away::find_unsure() {
  std::vector<PageRun> present;
  if (vm_.memory.find_present({PageIndex(0), vm_.tables.page_count()}, present) ==
      machine::MemoryResult::kGone) {
    vm_.gone = true;
    return;
  }
  uint64_t frames = 0;
  for (const PageRun& run : present) {
    for (PageIndex page = run.first; page < run.end(); ++page) {
      if (vm_.state(page) != PageState::kLoose) continue;
      const bool follows = !unsure_.empty() && unsure_.back().end() == page;
      if (!follows || unsure_.back().count == kRunMax) unsure_.push_back({page, 0});
      ++unsure_.back().count;
      vm_.set(page, vm_.get(page).with_in_flight(true));
      ++frames;
    }
  }
  vm_.charged_frames += frames;
  reserved_ += frames;
  vm_.ledger.charge_existing(pages_to_bytes(frames));
}

}  // namespace ballast::engine
