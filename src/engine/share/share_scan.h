// ShareScan: which pages of one VM are looked at for sharing, and when.
//
// Two kinds of passes over the VM, in runs of pages. A *fresh* pass looks only at pages that were
// filled since they were looked at last (the VM boots, a disk image is read), as fast as
// Mem.ShareRateMax allows; it begins when there are enough of them, a little after they were
// filled, so that they have got their content. A *full* pass looks at everything and takes
// Mem.ShareScanTime. In it a page whose content changed since the last look is skipped for 1, 2,
// 4 … 32 passes, and a pass that shared less than one page in 512 makes the next ones slower, by up
// to 16 times, until one pays again. Time is the VM's run time. Worker only.
#pragma once

#include <string>
#include <vector>

#include "engine/share/sharer.h"

namespace ballast::engine {

class ShareScan {
 public:
  static constexpr uint64_t kBytesPerPage = sizeof(uint16_t);
  static constexpr Nanoseconds kNever = ~Nanoseconds{0};

  ShareScan(Vm& vm, Sharer& sharer, bool on);

  // Pages per second at most (0: off), and seconds for a pass.
  void set(uint32_t rate_max, uint32_t pass_seconds);
  // One bounded step, if it is due. `busy`: the VM faults or memory is being taken from it; the
  // scan waits then, but not for ever.
  void turn(Nanoseconds run_time, bool busy);
  Nanoseconds next_due() const;

  uint32_t rate() const;                       // pages/s now
  uint32_t slowed() const { return slowed_; }  // how many times slower than asked for; 1: not

 private:
  struct Pass {
    uint32_t hand = 0;
    Nanoseconds due = kNever;
  };
  bool is_off() const { return !on_ || rate_max_ == 0 || pass_seconds_ == 0; }
  void start_fresh(Nanoseconds run_time);
  void put_off(Nanoseconds run_time);
  void look(Pass& pass, bool fresh, Nanoseconds run_time);
  PageRun next_run(Pass& pass, bool fresh);
  bool wants(PageIndex page, bool fresh);
  uint32_t full_rate() const;
  uint64_t filled() const;
  void note(PageRun run, const Sharer::Looks& looks);
  void end_pass();

  Vm& vm_;
  Sharer& sharer_;
  const bool on_;
  uint32_t rate_max_ = 0;
  uint32_t pass_seconds_ = 0;
  Pass full_;
  Pass fresh_;
  uint64_t filled_before_ = 0;  // when the last fresh pass began
  uint32_t passes_ = 0;         // full ones
  uint32_t slowed_ = 1;
  uint32_t tries_ = 0;  // of the run that is looked at
  uint64_t looked_in_pass_ = 0;
  uint64_t gained_before_ = 0;
  Nanoseconds fresh_from_ = 0;  // no fresh pass before
  Nanoseconds postponed_ = 0;
  // Per page, 0: filled and not looked at since. Bits 0..11: of what its hash was, plus one; bits
  // 12..15: how often it changed lately.
  std::vector<uint16_t> seen_;
};

}  // namespace ballast::engine
