// ShareGroup: what the VMs of one salt group have in common: the pool of frames, the table of
// contents, and the letters their workers write to each other.
//
// References: each page that is Shared or Loose over a frame holds one. A frame is charged to the
// ledger from allocate() until the last reference goes; its bytes are written once, between
// allocate() and publish(), and never change. No call waits for another VM. Any thread, except
// where noted.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/ledger/ledger.h"
#include "engine/share/share_table.h"
#include "engine/swap/slot_map.h"
#include "machine/share_pool.h"
#include "model/report.h"

namespace ballast::engine {

// From one worker to another: donate this page, if it still has this content, for a page of mine;
// or the answer: join your page with this frame, or look at it again.
struct ShareLetter {
  enum class Kind { kDonate, kJoin, kLookAgain } kind = Kind::kDonate;
  PageIndex page;  // the receiver's
  PageHash hash;
  ShareTable::Owner from;
  FrameIndex frame;  // to join with
};

class ShareGroup {
 public:
  // What a page of a member costs: its record, and its part of the frames' reference counts.
  static constexpr uint64_t kOverheadBytesPerPage = ShareTable::kBytesPerPage + 2;

  // A pool that an earlier daemon left may hold frames: they are charged, and await claims.
  ShareGroup(std::string name, std::unique_ptr<machine::SharePool> pool, Ledger& ledger,
             const PageHasher& hasher);
  ~ShareGroup();
  ShareGroup(const ShareGroup&) = delete;
  ShareGroup& operator=(const ShareGroup&) = delete;

  const std::string& name() const { return name_; }
  machine::SharePool& pool() { return *pool_; }

  // A VM comes; `ring` makes its worker look for letters (any thread calls it). Returns its number.
  // The owner's thread, as leave().
  uint32_t enter(uint32_t pages, std::function<void()> ring);
  void leave(uint32_t member);
  uint32_t members() const { return members_count_.load(std::memory_order_relaxed); }

  // Up to `wanted` consecutive frames, charged; the caller fills them and publishes or drops each.
  // Count 0: no memory, or the pool is full.
  FrameRun allocate(uint32_t wanted);
  std::span<std::byte, kPageBytes> blank(FrameIndex frame) { return pool_->frame(frame); }
  // The frame has its bytes, one reference (the caller's), and can be found.
  void publish(FrameIndex frame, const PageHash& hash);
  void drop(FrameRun blanks);

  // False: the frame is gone. A frame that was found in the table may hold other bytes by now.
  bool try_reference(FrameIndex frame);
  void unreference(FrameRun frames);
  uint32_t references(FrameIndex frame) const {
    return counts_[frame.raw()].load(std::memory_order_relaxed);
  }
  PageBytes bytes(FrameIndex frame) { return pool_->frame(frame); }  // of a referenced one
  PageHash hash(PageBytes page) const { return hasher_(page); }
  ShareTable& table() { return table_; }
  const ShareTable& table() const { return table_; }

  // Recovery: a page of a VM that was taken over names this frame. False: it cannot. Frames that an
  // earlier daemon left are kept, named or not, until all its VMs are back: who is absent may name
  // them too.
  bool claim(FrameIndex frame);
  // They are back: frees the frames that nobody names. Owner's thread.
  void end_recovery();

  // False: the member has too many letters to answer, or has left.
  bool write_to(uint32_t member, const ShareLetter& letter);
  // Appends the letters to this member; its worker.
  void take_letters(uint32_t member, std::vector<ShareLetter>& into);

  // Counts of pages that are Shared, kept by their VMs.
  void add_shared(int64_t pages) { shared_pages_.fetch_add(pages, std::memory_order_relaxed); }
  uint64_t frames() const { return frames_.load(std::memory_order_relaxed); }
  uint64_t shared_pages() const {
    return static_cast<uint64_t>(shared_pages_.load(std::memory_order_relaxed));
  }
  // What a VM with so many shared pages consumes through this group.
  uint64_t part_bytes(uint64_t pages) const;
  ShareGroupReport report() const;

 private:
  static constexpr size_t kLettersMax = 4096;
  struct Free {
    void operator()(void* memory) const;
  };
  struct Box {
    std::function<void()> ring;
    uint32_t pages = 0;
    std::vector<ShareLetter> letters;
  };

  bool drop_reference(FrameIndex frame);
  void free_frames(FrameRun frames);

  const std::string name_;
  std::unique_ptr<machine::SharePool> pool_;
  Ledger& ledger_;
  const PageHasher hasher_;
  ShareTable table_;
  std::unique_ptr<std::atomic<uint32_t>[], Free> counts_;  // sparse
  std::atomic<uint64_t> frames_ = 0;
  std::atomic<int64_t> shared_pages_ = 0;
  std::atomic<uint32_t> members_count_ = 0;
  std::atomic<bool> recovering_ = false;

  mutable std::mutex lock_;      // guards what follows; held for a few instructions
  SlotMap taken_;                // frames; a slot is a frame
  std::vector<bool> inherited_;  // during recovery: the frames that were there; else empty
  std::map<uint32_t, Box> boxes_;
  uint64_t pages_ = 0;
};

}  // namespace ballast::engine
