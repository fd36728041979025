#include "engine/share/share_group.h"

#include <algorithm>
#include <cstdlib>

namespace ballast::engine {

namespace {

SwapSlot slot_of(FrameIndex frame) { return SwapSlot(frame.raw()); }

// Zeroed lazily by the allocator, so that counts of frames that were never used cost nothing.
std::atomic<uint32_t>* make_counts(uint32_t frames) {
  static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t));
  auto* counts = static_cast<std::atomic<uint32_t>*>(std::calloc(frames, sizeof(uint32_t)));
  BALLAST_CHECK(counts != nullptr);
  return counts;
}

}  // namespace

void ShareGroup::Free::operator()(void* memory) const { std::free(memory); }

ShareGroup::ShareGroup(std::string name, std::unique_ptr<machine::SharePool> pool, Ledger& ledger,
                       const PageHasher& hasher)
    : name_(std::move(name)),
      pool_(std::move(pool)),
      ledger_(ledger),
      hasher_(hasher),
      table_(0, 0),
      counts_(make_counts(pool_->frame_count())),
      taken_(pool_->frame_count()) {
  std::vector<FrameRun> present;
  pool_->find_present(present);
  for (const FrameRun& run : present) {
    if (inherited_.empty()) inherited_.resize(pool_->frame_count());
    recovering_ = true;
    for (uint32_t i = 0; i < run.count; ++i) {
      const FrameIndex frame = run.first + i;
      BALLAST_CHECK(taken_.claim(slot_of(frame)));
      inherited_[frame.raw()] = true;
    }
    frames_ += run.count;
  }
  ledger_.charge_existing(pages_to_bytes(frames_));
}

ShareGroup::~ShareGroup() { ledger_.uncharge(pages_to_bytes(frames_)); }

uint32_t ShareGroup::enter(uint32_t pages, std::function<void()> ring) {
  // The lowest free number. A letter to its last owner that is still on its way is harmless: it
  // asks to look at a page.
  uint32_t member = 0;
  uint32_t members = 0;
  {
    const std::lock_guard hold(lock_);
    while (boxes_.contains(member)) ++member;
    boxes_[member] = {std::move(ring), pages, {}};
    pages_ += pages;
    members = boxes_.rbegin()->first + 1;
  }
  ++members_count_;
  table_.resize(pages_, members);
  return member;
}

void ShareGroup::leave(uint32_t member) {
  uint32_t members = 0;
  {
    const std::lock_guard hold(lock_);
    const auto box = boxes_.find(member);
    BALLAST_CHECK(box != boxes_.end());
    pages_ -= box->second.pages;
    boxes_.erase(box);
    members = boxes_.empty() ? 0 : boxes_.rbegin()->first + 1;
  }
  --members_count_;
  table_.forget_member(member);
  table_.resize(pages_, members);
}

FrameRun ShareGroup::allocate(uint32_t wanted) {
  uint32_t charged = wanted;
  while (charged > 0 && !ledger_.try_charge(pages_to_bytes(charged))) charged /= 2;
  if (charged == 0) return {};
  SlotRun run;
  {
    const std::lock_guard hold(lock_);
    run = taken_.allocate(charged);
  }
  ledger_.uncharge(pages_to_bytes(charged - run.count));
  frames_ += run.count;
  return {FrameIndex(run.first.raw()), run.count};
}

void ShareGroup::publish(FrameIndex frame, const PageHash& hash) {
  counts_[frame.raw()].store(1, std::memory_order_release);
  table_.put_frame(hash, frame);
}

void ShareGroup::drop(FrameRun blanks) { free_frames(blanks); }

bool ShareGroup::try_reference(FrameIndex frame) {
  if (frame.raw() >= pool_->frame_count()) return false;
  std::atomic<uint32_t>& count = counts_[frame.raw()];
  uint32_t before = count.load(std::memory_order_relaxed);
  while (before > 0 && before < UINT32_MAX) {
    if (count.compare_exchange_weak(before, before + 1, std::memory_order_acquire)) return true;
  }
  return false;
}

// True if nobody names the frame any more and it is the caller's to free.
bool ShareGroup::drop_reference(FrameIndex frame) {
  std::atomic<uint32_t>& count = counts_[frame.raw()];
  std::unique_lock<std::mutex> hold;
  // Whoever frees inherited frames at the end of recovery must not see half of this.
  if (recovering_.load(std::memory_order_acquire)) hold = std::unique_lock(lock_);
  const uint32_t before = count.fetch_sub(1, std::memory_order_acq_rel);
  BALLAST_CHECK_THAT(before > 0, "group {} frame {}", name_, frame.raw());
  return before == 1 && !(hold && frame.raw() < inherited_.size() && inherited_[frame.raw()]);
}

void ShareGroup::unreference(FrameRun frames) {
  FrameRun gone{frames.first, 0};
  for (uint32_t i = 0; i < frames.count; ++i) {
    const FrameIndex frame = frames.first + i;
    if (!drop_reference(frame)) {
      free_frames(gone);
      gone = {frame + 1, 0};
      continue;
    }
    table_.forget_frame(hasher_(pool_->frame(frame)), frame);
    ++gone.count;
  }
  free_frames(gone);
}

void ShareGroup::free_frames(FrameRun frames) {
  if (frames.count == 0) return;
  pool_->release(frames);
  frames_ -= frames.count;
  {
    const std::lock_guard hold(lock_);
    for (uint32_t i = 0; i < frames.count; ++i) taken_.release(slot_of(frames.first + i));
  }
  ledger_.uncharge(pages_to_bytes(frames.count));
}

bool ShareGroup::claim(FrameIndex frame) {
  const std::lock_guard hold(lock_);
  if (frame.raw() >= inherited_.size() || !inherited_[frame.raw()]) return false;
  const uint32_t before = counts_[frame.raw()].fetch_add(1, std::memory_order_relaxed);
  if (before == 0) table_.put_frame(hasher_(pool_->frame(frame)), frame);
  return true;
}

void ShareGroup::end_recovery() {
  if (!recovering_.load(std::memory_order_relaxed)) return;
  std::vector<FrameIndex> nobodys;
  {
    const std::lock_guard hold(lock_);
    for (uint32_t frame = 0; frame < inherited_.size(); ++frame) {
      if (inherited_[frame] && counts_[frame].load(std::memory_order_acquire) == 0) {
        nobodys.emplace_back(frame);
      }
    }
    inherited_.clear();
    recovering_.store(false, std::memory_order_release);
  }
  FrameRun run;
  for (const FrameIndex frame : nobodys) {
    table_.forget_frame(hasher_(pool_->frame(frame)), frame);
    if (run.count == 0 || frame != run.end()) {
      free_frames(run);
      run = {frame, 0};
    }
    ++run.count;
  }
  free_frames(run);
}

bool ShareGroup::write_to(uint32_t member, const ShareLetter& letter) {
  std::function<void()> ring;
  {
    const std::lock_guard hold(lock_);
    const auto box = boxes_.find(member);
    if (box == boxes_.end() || box->second.letters.size() >= kLettersMax) return false;
    box->second.letters.push_back(letter);
    if (box->second.letters.size() > 1) return true;  // it was called already
    ring = box->second.ring;
  }
  if (ring) ring();
  return true;
}

void ShareGroup::take_letters(uint32_t member, std::vector<ShareLetter>& into) {
  const std::lock_guard hold(lock_);
  const auto box = boxes_.find(member);
  if (box == boxes_.end() || box->second.letters.empty()) return;
  into.insert(into.end(), box->second.letters.begin(), box->second.letters.end());
  box->second.letters.clear();
}

uint64_t ShareGroup::part_bytes(uint64_t pages) const {
  const uint64_t all = shared_pages();
  if (pages == 0 || all == 0) return 0;
  const double part = static_cast<double>(pages) / static_cast<double>(std::max(all, pages));
  return static_cast<uint64_t>(static_cast<double>(pages_to_bytes(frames())) * part);
}

ShareGroupReport ShareGroup::report() const {
  return {.name = name_,
          .vms = members(),
          .common_bytes = pages_to_bytes(frames()),
          .shared_bytes = pages_to_bytes(shared_pages()),
          .hints = table_.hints()};
}

}  // namespace ballast::engine
