// FaultServer: answers one VM's faults.
//
// A fault is decided by the page's state alone: events may be stale, doubled, or tell read from
// write wrongly. The fault path takes no lock, allocates nothing and never waits for a disk; a
// fault that cannot be answered now (no memory, a read under way) is remembered and answered by a
// later turn. Worker only.
#pragma once

#include <vector>

#include "engine/fault/streams.h"
#include "engine/swap/bring_back.h"
#include "engine/swap/swap_io.h"
#include "engine/vm.h"

namespace ballast::engine {

class FaultServer {
 public:
  FaultServer(Vm& vm, SwapIo& io, BringBack& bring_back);

  void serve(const machine::Fault& fault);
  // Tries the waiting faults again, oldest first. True if one was answered.
  bool retry_waiting();
  bool waiting() const { return !waiting_.empty() || dropped_; }
  // Since when the oldest fault waits for memory; 0 if none does (some may wait for the disk).
  Nanoseconds waiting_since() const;

 private:
  enum class Answer { kServed, kNoMemory, kLater };
  struct Waiting {
    machine::Fault fault;
    Nanoseconds since;
    Answer why;
  };

  Answer answer(const machine::Fault& fault);
  Answer fill_zero(PageIndex page);
  Answer fill_hole(PageIndex page);
  Answer let_write(PageIndex page);
  Answer break_shared(PageIndex page);
  Answer touch_away(PageIndex page);
  Answer quarantine(PageIndex page);
  Answer unzip(PageIndex page);
  Answer swap_in(const machine::Fault& fault);
  // Handles what stopped an install short; true to go on with the page after it.
  bool install_stopped(machine::InstallStop stop, PageIndex at);
  void wait(const machine::Fault& fault, Answer why);
  void note_walk(uint32_t steps, PageRun run);
  uint32_t reach(uint32_t steps, uint32_t first, uint32_t most) const;

  Vm& vm_;
  SwapIo& io_;
  BringBack& bring_back_;
  Streams streams_;
  std::vector<Waiting> waiting_;  // bounded by kWaitingMax
  bool dropped_ = false;  // more faults waited than we remember: wake all later, they fault again
  Nanoseconds late_since_ = 0;
  uint32_t late_events_ = 0;  // since then: away pages that were missing
};

}  // namespace ballast::engine
