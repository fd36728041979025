#include "engine/share/share_table.h"

#include <algorithm>

#include "base/check.h"

namespace ballast::engine {

namespace {

constexpr uint64_t kIsFrame = uint64_t{1} << 63;
constexpr uint64_t kCheckBits = uint64_t{0x7ff} << 52;

}  // namespace

ShareTable::ShareTable(uint64_t pages, uint32_t members) { resize(pages, members); }

uint64_t ShareTable::bytes() const { return sets_.size() * sizeof(Set); }

// A set is guarded by the lock of any tag in it only if all its tags have the same lock: the index
// keeps the tag's remainder.
size_t ShareTable::index_of(uint64_t tag) const {
  const size_t groups = sets_.size() / kLocks;
  const size_t group = (tag >> 32) * groups >> 32;
  return group * kLocks + tag % kLocks;
}

uint64_t ShareTable::hint_of(const PageHash& hash, Owner owner) {
  BALLAST_CHECK(owner.member < kMembersMax);
  return check_of(hash) | uint64_t{owner.member} << 32 | owner.page.raw();
}

uint64_t ShareTable::frame_of(const PageHash& hash, FrameIndex frame) {
  return kIsFrame | check_of(hash) | frame.raw();
}

ShareTable::Match ShareTable::match_of(const Record& record) {
  Match match;
  if ((record.where & kIsFrame) != 0) {
    match.kind = Match::Kind::kFrame;
    match.frame = FrameIndex(static_cast<uint32_t>(record.where));
  } else {
    match.kind = Match::Kind::kHint;
    match.hint = {static_cast<uint32_t>(record.where >> 32 & (kMembersMax - 1)),
                  PageIndex(static_cast<uint32_t>(record.where))};
  }
  return match;
}

ShareTable::Record* ShareTable::find_record(const PageHash& hash) {
  const uint64_t tag = tag_of(hash);
  for (Record& record : set_of(tag).records) {
    if (record.tag == tag && (record.where & kCheckBits) == check_of(hash)) return &record;
  }
  return nullptr;
}

// An empty place, else one of the hints, else (all are frames) a frame that can no longer be found.
void ShareTable::store(Set& set, const Record& record) {
  const size_t start = record.where >> 52 & (kWays - 1);
  Record* place = nullptr;
  for (size_t i = 0; i < kWays; ++i) {
    Record& candidate = set.records[(start + i) % kWays];
    if (candidate.tag == 0) {
      place = &candidate;
      break;
    }
    if (place == nullptr && (candidate.where & kIsFrame) == 0) place = &candidate;
  }
  if (place == nullptr) place = &set.records[start];
  if (place->tag != 0) count(*place, -1);
  count(record, +1);
  *place = record;
}

void ShareTable::count(const Record& record, int64_t change) {
  if ((record.where & kIsFrame) != 0) return;
  hints_.fetch_add(static_cast<uint64_t>(change), std::memory_order_relaxed);
  const uint32_t member = match_of(record).hint.member;
  BALLAST_CHECK(member < hints_of_.size());
  hints_of_[member].fetch_add(static_cast<uint64_t>(change), std::memory_order_relaxed);
}

uint64_t ShareTable::hints_of(uint32_t member) const {
  const std::lock_guard hold(locks_[0]);  // any: it is made anew under all of them
  return member < hints_of_.size() ? hints_of_[member].load(std::memory_order_relaxed) : 0;
}

void ShareTable::prefetch(const PageHash& hash) const {
  const std::lock_guard hold(lock_of(tag_of(hash)));  // of the vector, not of the set
  const Set& set = sets_[index_of(tag_of(hash))];
  __builtin_prefetch(set.records.data());
  __builtin_prefetch(set.records.data() + kWays / 2);
}

ShareTable::Match ShareTable::find_or_hint(const PageHash& hash, Owner owner) {
  const std::lock_guard hold(lock_of(tag_of(hash)));
  if (const Record* record = find_record(hash)) return match_of(*record);
  store(set_of(tag_of(hash)), {tag_of(hash), hint_of(hash, owner)});
  return {};
}

ShareTable::Match ShareTable::find(const PageHash& hash) const {
  const std::lock_guard hold(lock_of(tag_of(hash)));
  const Record* record = const_cast<ShareTable*>(this)->find_record(hash);
  return record == nullptr ? Match{} : match_of(*record);
}

void ShareTable::put_frame(const PageHash& hash, FrameIndex frame) {
  const std::lock_guard hold(lock_of(tag_of(hash)));
  const Record fresh{tag_of(hash), frame_of(hash, frame)};
  Record* record = find_record(hash);
  if (record == nullptr) return store(set_of(fresh.tag), fresh);
  count(*record, -1);
  *record = fresh;
}

void ShareTable::forget(const PageHash& hash, uint64_t where) {
  const std::lock_guard hold(lock_of(tag_of(hash)));
  Record* record = find_record(hash);
  if (record == nullptr || record->where != where) return;
  count(*record, -1);
  *record = {};
}

void ShareTable::forget_hint(const PageHash& hash, Owner owner) {
  forget(hash, hint_of(hash, owner));
}

void ShareTable::forget_frame(const PageHash& hash, FrameIndex frame) {
  forget(hash, frame_of(hash, frame));
}

void ShareTable::forget_member(uint32_t member) {
  for (size_t index = 0; index < sets_.size(); ++index) {
    const std::lock_guard hold(locks_[index % kLocks]);
    for (Record& record : sets_[index].records) {
      if (record.tag == 0 || match_of(record).kind != Match::Kind::kHint) continue;
      if (match_of(record).hint.member != member) continue;
      count(record, -1);
      record = {};
    }
  }
}

void ShareTable::resize(uint64_t pages, uint32_t members) {
  std::vector<Set> fresh(std::max<uint64_t>(pages / kWays / kLocks, 1) * kLocks);
  std::vector<std::atomic<uint64_t>> fresh_counts(members);
  for (std::mutex& lock : locks_) lock.lock();
  fresh.swap(sets_);
  fresh_counts.swap(hints_of_);
  hints_ = 0;
  for (const Set& set : fresh) {
    for (const Record& record : set.records) {
      if (record.tag != 0) store(set_of(record.tag), record);
    }
  }
  for (std::mutex& lock : locks_) lock.unlock();
}

}  // namespace ballast::engine
