#include "engine/share/sharer.h"

#include <algorithm>
#include <cstring>
#include <tuple>

#include "engine/sample/active_sampler.h"

namespace ballast::engine {

Sharer::Sharer(Vm& vm, Away& away, ShareGroup* group, uint32_t member)
    : vm_(vm), away_(away), group_(group), member_(member) {}

bool Sharer::may_look(PageIndex page) const {
  const PageEntry entry = vm_.get(page);
  return has_frame(entry.state()) && !entry.in_flight() && !vm_.discard_bit(page);
}

void Sharer::look_at(PageRun run, Looks& looks) {
  looks.fill({});
  box_was_full_ = false;
  if (group_ == nullptr || vm_.gone || !vm_.memory.can_share()) return;
  // Unsealed: what is seen may change under the eyes. What comes of it is checked again, sealed.
  if (vm_.memory.read(run, vm_.scratch.run(0, run.count)) == machine::MemoryResult::kGone) {
    vm_.gone = true;
    return;
  }
  std::array<Find, kRunPages> finds;
  for (uint32_t i = 0; i < run.count; ++i) {
    if (!may_look(run.first + i)) continue;
    ++vm_.counters.share_scanned;
    const PageBytes bytes = vm_.scratch.page(i);
    looks[i].taken = true;
    if (is_zero(bytes)) {
      finds[i].kind = Find::Kind::kZero;
      continue;
    }
    looks[i].hash = group_->hash(bytes);
    group_->table().prefetch(looks[i].hash);
  }
  for (uint32_t i = 0; i < run.count; ++i) {
    if (!looks[i].taken || finds[i].kind == Find::Kind::kZero) continue;
    finds[i] = find(run.first + i, vm_.scratch.page(i), looks[i].hash);
  }
  act(run, std::span(finds).first(run.count));
}

Sharer::Find Sharer::find(PageIndex page, PageBytes bytes, const PageHash& hash) {
  using Kind = ShareTable::Match::Kind;
  const ShareTable::Owner self{member_, page};
  const ShareTable::Match match = group_->table().find_or_hint(hash, self);
  if (match.kind == Kind::kFrame) {
    // A first comparison here spares the seals; a meeting of hashes alone is no reason for them.
    if (!group_->try_reference(match.frame)) return {};
    const bool equal =
        std::memcmp(group_->bytes(match.frame).data(), bytes.data(), kPageBytes) == 0;
    group_->unreference({match.frame, 1});
    return equal ? Find{Find::Kind::kFrame, match.frame} : Find{};
  }
  if (match.kind == Kind::kHint && match.hint != self) {
    box_was_full_ |= !group_->write_to(
        match.hint.member, {ShareLetter::Kind::kDonate, match.hint.page, hash, self, {}});
  }
  return {};
}

// Acts on the longest runs that belong together.
void Sharer::act(PageRun run, std::span<const Find> finds) {
  for (uint32_t at = 0; at < run.count && !vm_.gone;) {
    const Find& first = finds[at];
    uint32_t count = 1;
    while (at + count < run.count && finds[at + count].kind == first.kind &&
           (first.kind != Find::Kind::kFrame || finds[at + count].frame == first.frame + count)) {
      ++count;
    }
    const PageRun part{run.first + at, count};
    if (first.kind == Find::Kind::kZero) drop_zeros(part);
    if (first.kind == Find::Kind::kFrame) join(part, first.frame);
    at += count;
  }
}

// Pages of zeros need no frame and no table: they are what Zero means.
void Sharer::drop_zeros(PageRun run) {
  vm_.sampler->before_evict(run);
  if (!vm_.seal_and_read(run)) return;
  for (uint32_t at = 0; at < run.count;) {
    uint32_t count = 0;
    while (at + count < run.count && is_zero(vm_.scratch.page(at + count))) ++count;
    const PageRun zeros{run.first + at, count};
    for (uint32_t i = 0; i < count; ++i) {
      const PageEntry old = vm_.get(zeros.first + i);
      vm_.set(zeros.first + i, PageEntry::plain(PageState::kZero));
      vm_.release_copy(old);
    }
    if (count > 0) {
      if (vm_.memory.discard(zeros) == machine::MemoryResult::kGone) vm_.gone = true;
      vm_.uncharge_frames(count);
      vm_.counters.zero_drops += count;
    }
    at += count + 1;
  }
}

void Sharer::join(PageRun run, FrameIndex first) {
  if (!away_.can_send()) return;
  uint32_t held = 0;
  while (held < run.count && group_->try_reference(first + held)) ++held;
  run.count = held;
  if (held == 0) return;
  vm_.sampler->before_evict(run);
  uint32_t equal = 0;
  if (vm_.seal_and_read(run)) {
    while (equal < held && std::memcmp(vm_.scratch.page(equal).data(),
                                       group_->bytes(first + equal).data(), kPageBytes) == 0) {
      ++equal;
    }
  }
  const uint32_t sent = equal > 0 ? away_.send({run.first, equal}, first) : 0;
  group_->unreference({first + sent, held - sent});
}

bool Sharer::offer(PageIndex page, PageBytes bytes) {
  if (group_ == nullptr || !away_.can_send()) return false;
  const ShareTable::Match match = group_->table().find(group_->hash(bytes));
  if (match.kind != ShareTable::Match::Kind::kFrame) return false;
  if (!group_->try_reference(match.frame)) return false;
  if (std::memcmp(group_->bytes(match.frame).data(), bytes.data(), kPageBytes) != 0) {
    group_->unreference({match.frame, 1});
    return false;
  }
  const bool continues = offered_.count > 0 && page == offered_.end() &&
                         match.frame == offered_frame_ + offered_.count;
  if (!continues) {
    flush_offers();
    offered_ = {page, 0};
    offered_frame_ = match.frame;
  }
  ++offered_.count;
  return true;
}

void Sharer::flush_offers() {
  if (offered_.count == 0) return;
  const uint32_t sent = away_.send(offered_, offered_frame_);
  group_->unreference({offered_frame_ + sent, offered_.count - sent});
  offered_.count = 0;
}

bool Sharer::behind() const { return letters_.size() >= kRunPages || away_.is_busy(); }

bool Sharer::read_letters() {
  if (group_ == nullptr || vm_.gone) return false;
  if (away_.is_busy()) return false;
  if (letters_.size() < kRunPages) group_->take_letters(member_, letters_);
  if (letters_.empty()) return false;
  // What one VM asks for together are runs, however many others ask for the same pages.
  const auto order = [](const ShareLetter& a, const ShareLetter& b) {
    return std::tuple(a.kind, a.from.member, a.page) < std::tuple(b.kind, b.from.member, b.page);
  };
  std::ranges::stable_sort(letters_, order);
  size_t at = 0;
  while (at < letters_.size() && !vm_.gone && !away_.is_busy()) {
    const ShareLetter& first = letters_[at];
    uint32_t count = 1;
    while (at + count < letters_.size() && count < kRunPages &&
           letters_[at + count].kind == first.kind &&
           letters_[at + count].from.member == first.from.member &&
           letters_[at + count].page == first.page + count) {
      ++count;
    }
    const size_t done = follow(std::span(letters_).subspan(at, count));
    at += done;
    if (done < count) break;
  }
  letters_.erase(letters_.begin(), letters_.begin() + static_cast<ptrdiff_t>(at));
  return at > 0;
}

// Letters of one kind, to consecutive pages. How many are done with; the others later.
size_t Sharer::follow(std::span<const ShareLetter> run) {
  if (run.front().kind == ShareLetter::Kind::kDonate) return donate(run);
  const PageRun pages{run.front().page, static_cast<uint32_t>(run.size())};
  if (pages.end().raw() > vm_.tables.page_count()) return run.size();  // of another's, long ago
  if (run.front().kind == ShareLetter::Kind::kJoin) {
    join_donated(run);
  } else {
    Looks looks;
    look_at(pages, looks);
  }
  return run.size();
}

void Sharer::join_donated(std::span<const ShareLetter> letters) {
  while (!letters.empty() && !vm_.gone) {
    const PageIndex page = letters.front().page;
    const FrameIndex frame = letters.front().frame;
    uint32_t count = 0;
    while (count < letters.size() && letters[count].frame == frame + count &&
           may_look(page + count)) {
      ++count;
    }
    if (count > 0) join({page, count}, frame);
    letters = letters.subspan(std::max(count, 1u));
  }
}

// Letters are answered whatever came of it: the asker's page may have become the better hint.
void Sharer::answer(std::span<const ShareLetter> letters, FrameRun frames) {
  for (uint32_t i = 0; i < letters.size(); ++i) {
    const ShareLetter& letter = letters[i];
    const bool donated = i < frames.count;
    group_->write_to(letter.from.member,
                     {.kind = donated ? ShareLetter::Kind::kJoin : ShareLetter::Kind::kLookAgain,
                      .page = letter.from.page,
                      .hash = letter.hash,
                      .from = {member_, letter.page},
                      .frame = donated ? frames.first + i : FrameIndex()});
  }
}

// Seals and reads; how many pages, from the first, still have the content they are asked for.
uint32_t Sharer::still_equal(PageRun run, std::span<const ShareLetter> letters) {
  vm_.sampler->before_evict(run);
  if (!vm_.seal_and_read(run)) return 0;
  uint32_t equal = 0;
  const auto is_equal = [&](uint32_t i) {
    const PageBytes bytes = vm_.scratch.page(i);
    return group_->hash(bytes) == letters[i].hash && !is_zero(bytes);  // zeros need no frame
  };
  while (equal < run.count && is_equal(equal)) ++equal;
  if (equal < run.count) {
    group_->table().forget_hint(letters[equal].hash, {member_, run.first + equal});
  }
  return equal;
}

// Consecutive pages. How many letters were answered; the others later.
size_t Sharer::donate(std::span<const ShareLetter> letters) {
  const size_t all = letters.size();
  while (!letters.empty() && !vm_.gone) {
    const PageIndex first = letters.front().page;
    uint32_t count = 0;
    while (count < letters.size() && (first + count).raw() < vm_.tables.page_count() &&
           may_look(first + count)) {
      ++count;
    }
    if (count ==
        0) {  // donated already, for somebody else; or its frame is gone: nothing to donate
      const PageEntry entry = first.raw() < vm_.tables.page_count() ? vm_.get(first) : PageEntry();
      const bool donated = is_away(entry.state());
      if (!donated) group_->table().forget_hint(letters.front().hash, {member_, first});
      answer(letters.first(1), donated ? FrameRun{entry.frame(), 1} : FrameRun{});
      letters = letters.subspan(1);
      continue;
    }
    if (away_.is_busy()) break;
    if (!away_.can_send()) return all;  // for good, or as good as that
    const uint32_t equal = still_equal({first, count}, letters);
    const FrameRun frames = equal > 0 ? group_->allocate(equal) : FrameRun{};
    if (equal > 0 && frames.count == 0) return all;  // no memory: a later pass asks again
    for (uint32_t i = 0; i < frames.count; ++i) {
      std::memcpy(group_->blank(frames.first + i).data(), vm_.scratch.page(i).data(), kPageBytes);
    }
    const uint32_t sent = frames.count > 0 ? away_.send({first, frames.count}, frames.first) : 0;
    for (uint32_t i = 0; i < sent; ++i) group_->publish(frames.first + i, letters[i].hash);
    group_->drop({frames.first + sent, frames.count - sent});
    const uint32_t handled = std::max(sent, equal == 0 ? 1u : sent);
    if (handled == 0) break;
    answer(letters.first(handled), {frames.first, sent});
    letters = letters.subspan(handled);
  }
  return all - letters.size();
}

}  // namespace ballast::engine
