// Sharer: finds equal pages for one VM and makes one frame of them.
//
// A candidate page is read and hashed. Known content in a shared frame: *join*, that is seal, read
// again, compare every byte with the frame, map. Known as another page's content (a hint): a letter
// asks that page's worker to *donate*: seal, read, check that the content is still the one, copy it
// into a frame, record the frame, map; the answer names the frame, and the first worker joins.
// Unknown: the page becomes the hint. Only zeros: dropped, costs nothing from then on.
// Neighbours go together: runs of pages into runs of frames. Worker only.
#pragma once

#include <array>
#include <vector>

#include "engine/share/away.h"

namespace ballast::engine {

class Sharer {
 public:
  Sharer(Vm& vm, Away& away, ShareGroup* group, uint32_t member);

  // Looks at Resident or Sealed pages, at most kRunPages. What was found of each, for the scan.
  struct Look {
    bool taken = false;  // read and hashed
    PageHash hash;
  };
  using Looks = std::array<Look, kRunPages>;
  void look_at(PageRun run, Looks& looks);

  // Reclaim has sealed and read this page and is about to store it: shares it instead if its
  // content has a frame. Call flush_offers() after a run of offers.
  bool offer(PageIndex page, PageBytes bytes);
  void flush_offers();

  // Answers letters as far as pages can be sent now. True if it could go on at once.
  bool read_letters();
  // More would be found than can be acted on: looking further is put off.
  bool behind() const;
  // Somebody could not be asked: what was looked at last should be looked at again.
  bool missed_some() const { return box_was_full_; }
  // Pages of this VM that the table knows by their content. Any thread.
  uint64_t hints() const { return group_ == nullptr ? 0 : group_->table().hints_of(member_); }

 private:
  struct Find {
    enum class Kind : uint8_t { kNothing, kZero, kFrame } kind = Kind::kNothing;
    FrameIndex frame;
  };

  bool may_look(PageIndex page) const;
  Find find(PageIndex page, PageBytes bytes, const PageHash& hash);
  void act(PageRun run, std::span<const Find> finds);
  void drop_zeros(PageRun run);
  void join(PageRun run, FrameIndex first);
  size_t donate(std::span<const ShareLetter> letters);
  uint32_t still_equal(PageRun run, std::span<const ShareLetter> letters);
  size_t follow(std::span<const ShareLetter> run);
  void join_donated(std::span<const ShareLetter> letters);
  void answer(std::span<const ShareLetter> letters, FrameRun frames);

  Vm& vm_;
  Away& away_;
  ShareGroup* const group_;
  const uint32_t member_;
  std::vector<ShareLetter> letters_;  // not answered yet
  bool box_was_full_ = false;         // of somebody we wrote to
  PageRun offered_;
  FrameIndex offered_frame_;
};

}  // namespace ballast::engine
