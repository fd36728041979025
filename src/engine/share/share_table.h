// ShareTable: from a page's hash to where that content is: a shared frame, or a page that had it
// when it was looked at last (a hint).
//
// Sets of 8 records of 16 bytes, one record per page of the group's VMs: 0.39 % of their memory,
// never more. A full set forgets one of its hints: what is lost is a saving, found again by a later
// pass. Hashes that meet in 75 bits or more share a record; whoever follows a match compares all
// bytes. Any thread: 64 locks, held for one set.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "engine/share/page_hash.h"

namespace ballast::engine {

class ShareTable {
 public:
  static constexpr uint64_t kBytesPerPage = 16;
  static constexpr uint32_t kMembersMax = 1 << 20;

  struct Owner {
    uint32_t member = 0;
    PageIndex page;
    bool operator==(const Owner&) const = default;
  };
  struct Match {
    enum class Kind { kNone, kHint, kFrame } kind = Kind::kNone;
    Owner hint;
    FrameIndex frame;
  };

  ShareTable(uint64_t pages, uint32_t members);

  // A look at it is to follow: its set comes into the cache meanwhile.
  void prefetch(const PageHash& hash) const;
  // What is known of the content; if nothing is, the owner becomes its hint.
  Match find_or_hint(const PageHash& hash, Owner owner);
  Match find(const PageHash& hash) const;
  // The content lies in this frame now; replaces a hint.
  void put_frame(const PageHash& hash, FrameIndex frame);
  // Only if it is this one that is recorded.
  void forget_hint(const PageHash& hash, Owner owner);
  void forget_frame(const PageHash& hash, FrameIndex frame);
  void forget_member(uint32_t member);  // all its hints

  // For another number of pages, and members below that number; keeps what fits.
  void resize(uint64_t pages, uint32_t members);

  uint64_t hints() const { return hints_.load(std::memory_order_relaxed); }
  uint64_t hints_of(uint32_t member) const;
  uint64_t bytes() const;

 private:
  static constexpr size_t kWays = 8;
  static constexpr size_t kLocks = 64;
  // `tag` is the low half of the hash (0: empty). `where`: bit 63 tells frame from hint; bits 0..31
  // the frame or the page; a hint has its member in bits 32..51; bits 52..62 are of the hash's high
  // half.
  struct Record {
    uint64_t tag = 0;
    uint64_t where = 0;
  };
  struct alignas(128) Set {
    std::array<Record, kWays> records;
  };

  static uint64_t tag_of(const PageHash& hash) { return hash.low == 0 ? 1 : hash.low; }
  static uint64_t check_of(const PageHash& hash) { return hash.high >> 53 << 52; }
  static uint64_t hint_of(const PageHash& hash, Owner owner);
  static uint64_t frame_of(const PageHash& hash, FrameIndex frame);
  static Match match_of(const Record& record);
  // Tags that meet in one lock meet in it for every size of the table.
  std::mutex& lock_of(uint64_t tag) const { return locks_[tag % kLocks]; }
  Set& set_of(uint64_t tag) { return sets_[index_of(tag)]; }
  size_t index_of(uint64_t tag) const;
  Record* find_record(const PageHash& hash);
  void store(Set& set, const Record& record);
  void count(const Record& record, int64_t change);  // if it is a hint
  void forget(const PageHash& hash, uint64_t where);

  std::vector<Set> sets_;
  std::atomic<uint64_t> hints_ = 0;
  std::vector<std::atomic<uint64_t>> hints_of_;  // by member; made anew under all locks
  mutable std::array<std::mutex, kLocks> locks_;
};

}  // namespace ballast::engine
