// Away: one VM's pages between the RAM file and the frames of its group's pool.
//
//   Sealed  ── send() ──►  Loose  ── end ──►  Shared          the mapping becomes the frame's
//   Shared  ── let_write(), bring_home() ──►  Loose           the guest writes, or gives it up
//   Loose   ── turn() ──►  (home-coming) ──►  Resident        copied into the RAM file, mapped
//   there
//
// A Loose page's true copy is what the guest has mapped; nothing else is known about it, nothing
// else is ever assumed, so a daemon may die anywhere: the next one brings Loose pages home. A Loose
// page is charged one frame; while its mapping changes (the in-flight mark) a second one is, for
// the copy. A page whose request was lost may have an own frame and a private copy as well: it
// keeps mark and charge until it is home. Pages come home in runs, a little later, because a write
// is rarely alone and each call costs the VM a remapping. Worker only; no call waits.
#pragma once

#include <deque>
#include <vector>

#include "engine/share/share_group.h"
#include "engine/vm.h"

namespace ballast::engine {

class Away {
 public:
  enum class Write { kPasses, kNoMemory, kLater };

  // `mappings_max`: how many mappings sharing may cost the VM's process.
  Away(Vm& vm, ShareGroup* group, uint64_t mappings_max);
  // If the VM is gone its references are given back. If it lives on without this daemon its pages
  // keep their frames.
  ~Away();

  // Whether pages can be sent now, as far as the VM's side and its mappings go.
  bool can_send() const;
  // Whether sharing may still cost the VM's process a mapping in the middle of another one.
  bool has_mappings() const { return edges_ + 2 <= mappings_max_; }
  // As much is under way as may be; ends will come.
  bool is_busy() const { return asked_.size() >= kSharesMax; }
  // Maps Sealed pages, not in flight, to consecutive frames that hold the same bytes. The caller
  // has a reference for each page and gives it away. Returns how many pages, from the first, are on
  // their way; the references of the others stay the caller's.
  uint32_t send(PageRun run, FrameIndex first);

  // A write to a Shared or Loose page; `reach` pages from it are probably written next.
  Write let_write(PageIndex page, uint32_t reach);
  // The guest gives a Shared page up, or reclaim wants it: it comes home. False: no memory for it.
  bool bring_home(PageIndex page);

  // Handles ends; true if there were any. Then starts what is due.
  bool poll();
  void turn();
  // The clock's time at which turn() has work; never: ~0.
  Nanoseconds next_due() const;

  // After a take-over, when the entries' frames are claimed: Loose pages will come home.
  void take_over();

  // For audits and reports.
  uint64_t frames_reserved() const { return reserved_; }
  uint32_t going_out() const { return going_out_; }  // pages whose own frames are about to be freed

 private:
  static constexpr size_t kAskedMax = 48;
  // With so many nothing more is looked for (whoever writes to a page in the queue waits for its
  // end); what one look of 32 pages found still fits.
  static constexpr size_t kSharesMax = 8;
  static constexpr size_t kLooseMax = 4096;  // remembered; more are found by looking
  struct Asked {
    machine::Remapped::Kind kind;
    PageRun run;
    bool unsure = false;  // a home-coming after a request that was lost
  };

  uint32_t reserve(uint32_t frames, bool for_reclaim);
  void give_back(uint32_t frames);
  void give_back(FrameIndex frame, FrameRun& run);
  void note_loose(PageRun run);
  bool start_home(PageIndex page);
  void start_home_of_all();
  void start_home_of_unsure();
  void find_loose();
  void shared(const machine::Remapped& end);
  void home(PageRun run);
  void lost();
  void settle(PageRun run);
  void be_unsure(PageRun run);
  void find_unsure();
  void take_discards(PageRun run);
  uint64_t edges_around(PageRun run) const;
  bool edge(uint32_t page) const;

  Vm& vm_;
  ShareGroup* const group_;
  const uint64_t mappings_max_;
  std::deque<Asked> asked_;
  std::deque<PageRun> unsure_;  // what a lost request left, in flight, with its charges
  std::vector<PageIndex> loose_;
  bool more_loose_ = false;  // than loose_ remembers
  Nanoseconds loose_since_ = 0;
  Nanoseconds not_before_ = 0;  // after a failed home-coming
  uint64_t reserved_ = 0;
  uint32_t going_out_ = 0;
  uint64_t edges_ = 0;  // places where one mapping ends and another begins
};

}  // namespace ballast::engine
