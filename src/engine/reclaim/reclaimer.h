// Reclaimer: takes memory back from one VM, a run of pages at a time, by the gentlest store that
// holds each page.
//
//   known zero            → dropped
//   copy on disk is right → dropped, nothing written
//   in a shared frame     → joined to it
//   compresses to ≤ 50 %  → compression cache; when that is full its oldest pages go to swap first
//   the rest              → swap
//
// One step: seal the run, read it, store what can be stored now (contents → entry), then free the
// frames (punch). A write in between wakes nobody wrongly: it traps, and its event finds the page
// stored and brings it back. Worker only; a step is bounded by kRunPages and never waits for the
// disk.
#pragma once

#include <memory>

#include "engine/reclaim/victims.h"
#include "engine/share/sharer.h"
#include "engine/swap/swap_io.h"
#include "engine/vm.h"

namespace ballast::engine {

class Reclaimer {
 public:
  Reclaimer(Vm& vm, SwapIo& io, Sharer& sharer, const Away& away);

  // Pages to take now, as the host state and the policy's orders ask, counting what is on its way
  // out as gone.
  uint64_t wanted();
  // Evicts one run, never below the VM's min. Returns pages freed or sent on their way; 0 when only
  // the disk can make progress, or nothing can.
  enum class Need { kTarget, kWaitingFault };
  uint32_t step(Need need);

 private:
  enum class Fate { kStored, kGoingOut, kStays };

  // Consumption down to which the VM is to be paged now because memory is short.
  uint64_t floor_in_this_state() const;
  Fate store_page(PageIndex page, PageBytes bytes);
  Fate compress_page(PageIndex page, PageBytes bytes);
  // Pages whose frames will be free in a moment.
  uint64_t going_out() const;
  // Pages that may go before the VM is at its min, at most kRunPages.
  uint32_t above_floor() const;
  // Sends the cache's oldest pages towards swap; returns how many.
  uint32_t age_zip(uint32_t pages);

  Vm& vm_;
  SwapIo& io_;
  Sharer& sharer_;
  const Away& away_;
  std::unique_ptr<Victims> victims_;
  PageBuffer aged_{1};
  bool zip_was_full_ = false;
};

}  // namespace ballast::engine
