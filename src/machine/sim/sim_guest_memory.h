// SimGuestMemory: one VM's RAM as frames of 4 KiB, with the kernel's habits: seals survive as marks
// on holes, a discard wakes nobody, an install wakes only its own pages, events may be stale,
// doubled or out of order.
//
// Engine side: machine/guest_memory.h. Guest side: touch() for vCPUs, release() for balloon and
// free-page reports, take_faults() for the worker's event loop. One thread. See sim_world.h for
// interleaving points.
//
// Sharing (sim_guest_sharing.cc): requests wait in a queue that the VM's side works through on its
// own time, one small step whenever anybody calls, also while no daemon lives. What an engine must
// not do with a page that is away, or whose request has no end yet, is CHECKed.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "machine/guest_memory.h"
#include "machine/sim/sim_share_pool.h"
#include "machine/sim/sim_world.h"

namespace ballast::machine::sim {

// Rates in permille of the occasions.
struct SimMemoryOptions {
  uint32_t page_count = 256;
  bool can_sample = true;
  bool async_faults = false;  // as under KVM: reads of holes come back as writes
  bool reads_survive_death =
      false;  // file calls go on after the VM died, only mapping calls say kGone
  uint32_t duplicate_events = 0;
  uint32_t stale_events = 0;  // an event for a page that nobody waits for
  uint32_t reordering = 0;
  uint32_t retries = 0;  // an install stops early with kRetry
  uint32_t spurious_wakes = 0;
  uint32_t missed_samples = 0;
  uint32_t busy_remaps = 0;     // a request cannot be asked now
  uint32_t refused_remaps = 0;  // done = false
  uint32_t slow_remaps = 0;     // requests that take up to 20 ms to begin
  uint32_t slips = 0;       // shares whose steps lie far apart, with sleeping writers woken between
  uint32_t lost_links = 0;  // requests at which the VM's side connects anew
};

class SimGuestMemory final : public GuestMemory {
 public:
  SimGuestMemory(SimWorld& world, uint32_t vm, SimMemoryOptions options);
  ~SimGuestMemory() override;

  uint32_t page_count() const override { return options_.page_count; }
  MemoryResult seal(PageRun run) override;
  MemoryResult unseal(PageRun run) override;
  MemoryResult read(PageRun run, std::span<std::byte> into) override;
  MemoryResult discard(PageRun run) override;
  InstallResult install(PageRun run, std::span<const std::byte> contents, Sealing sealing) override;
  InstallResult install_zero(PageRun run) override;
  MemoryResult wake(PageRun run) override;
  MemoryResult find_present(PageRun run, std::vector<PageRun>& present) override;
  std::span<std::atomic<uint64_t>> discard_bits() override { return discard_bits_; }
  bool can_sample() const override { return options_.can_sample; }
  bool start_sample(std::span<const PageRun> runs) override;
  MemoryResult touched(PageRun run, std::span<uint64_t> bits) override;
  bool can_share() const override { return pool_ != nullptr; }
  bool start_share(PageRun run, FrameIndex first) override;
  bool start_home(PageRun run) override;
  bool poll_remapped(Remapped& end) override;
  bool remaps_lost() override;

  // Lets the VM share. The pool outlives it.
  void set_pool(SimSharePool& pool) { pool_ = &pool; }

  // Guest side. The frame to read or write now, or nullptr: the vCPU sleeps until it is woken, then
  // tries again. What a read returns must not be written.
  std::byte* touch(uint32_t vcpu, PageIndex page, bool write);
  bool asleep(uint32_t vcpu) const;
  // The page on which a sleeper waits.
  std::optional<PageIndex> waits_for(uint32_t vcpu) const;
  // The VM's side frees a frame. The caller sets the discard bit before and after.
  void release(PageIndex page);
  void set_discard_bit(PageIndex page);
  // The VM's side connects anew: requests without an end are carried out, or not.
  void lose_link();
  // One step of what was asked of the VM's side, if it is due. Every call here begins with one.
  void step_remaps();

  // Worker's side: takes up to `limit` events.
  std::vector<Fault> take_faults(size_t limit);
  bool has_faults() const { return !faults_.empty(); }

  // The VM's side takes no samples for now, and says so.
  void refuse_samples(bool refuse) { samples_refused_ = refuse; }
  void die();
  bool dead() const { return dead_; }
  uint32_t frames() const { return frames_; }  // private copies among them, the pool's not
  bool present(PageIndex page) const { return pages_[page.raw()].frame != nullptr; }
  bool away(PageIndex page) const { return pages_[page.raw()].away != nullptr; }
  bool away_and_sealed(PageIndex page) const {
    return away(page) && pages_[page.raw()].away->sealed;
  }
  bool has_private_copy(PageIndex page) const {
    return away(page) && pages_[page.raw()].away->copy;
  }
  uint32_t private_copies() const { return private_copies_; }

 private:
  enum class Sample : uint8_t { kNone, kArmed, kTouched };
  // What is mapped instead of the page's place in the RAM file.
  struct Away {
    FrameIndex frame;
    std::unique_ptr<std::byte[]> copy;  // private, once it was written
    bool sealed = false;
    bool given_up = false;  // marked by the guest, but not sent home yet
  };
  struct Page {
    std::unique_ptr<std::byte[]> frame;
    bool sealed = false;    // on a hole: a mark that the next install overwrites
    bool released = false;  // by the guest, since it was filled last
    Sample sample = Sample::kNone;
    std::unique_ptr<Away> away;
  };
  struct Sleeper {
    uint32_t vcpu;
    PageIndex page;
  };
  struct PendingSample {
    Nanoseconds ready;
    PageRun run;
  };

  // A request of the engine, from start_*() until its end was polled.
  struct Remap {
    Remapped::Kind kind = Remapped::Kind::kShare;
    PageRun run;
    FrameIndex first;  // kShare
    Nanoseconds due = 0;
    uint32_t step = 0;
    uint64_t given_up = 0;  // bit i: the guest marked page run.first + i since it was asked
    bool ended = false;
    bool done = false;
    uint64_t written = 0;

    bool begun() const { return step > 0 && !ended; }
    uint64_t bit(PageIndex page) const { return uint64_t{1} << (page - run.first); }
  };

  void check_run(PageRun run) const;
  // True if the call must not act: daemon or VM is dead.
  bool enter(const char* what, PageRun run, bool file_call = false);
  Page& page(PageIndex index) { return pages_[index.raw()]; }
  void add_frame(Page& page);
  void drop_frame(Page& page);
  void wake_sleepers(PageRun run);
  void raise(Fault fault);
  void arm_samples();
  InstallResult install_pages(PageRun run, std::span<const std::byte> contents, bool sealed);

  bool discard_bit(PageIndex page) const;
  bool ask(Remap remap);
  void check_shareable(PageIndex page, FrameIndex frame) const;
  void note_given_up(PageIndex page);
  const Remap* remap_of(PageIndex page, bool unless_given_up) const;
  void check_settled(PageIndex page, const char* what, bool unless_given_up) const;
  bool refuses_install(PageIndex page) const;
  void step(Remap& remap);
  void step_share(Remap& remap);
  void step_home(Remap& remap);
  bool copy_home(Remap& remap);
  void finish(Remap& remap);
  void end(Remap& remap, bool done);
  void drop_remaps(uint32_t carried_out);
  uint32_t some_remaps();
  void bring_home(Page& page);
  std::byte* touch_away(Away& away, bool write);

  SimWorld& world_;
  const uint32_t vm_;
  const SimMemoryOptions options_;
  std::vector<Page> pages_;
  std::vector<Sleeper> sleepers_;
  std::vector<uint32_t> write_intent_;  // vCPUs whose retried read is a write to the kernel
  std::deque<Fault> faults_;
  std::vector<PendingSample> pending_samples_;
  std::vector<std::atomic<uint64_t>> discard_bits_;
  SimSharePool* pool_ = nullptr;
  std::deque<Remap> remaps_;  // in the order of asking; those with an end first
  uint64_t life_;             // of the daemon that asked
  bool remaps_lost_ = false;
  Nanoseconds link_back_ = 0;  // when a lost link is there again
  uint32_t frames_ = 0;
  uint32_t private_copies_ = 0;
  bool dead_ = false;
  bool samples_refused_ = false;
};

}  // namespace ballast::machine::sim
