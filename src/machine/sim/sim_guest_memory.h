// SimGuestMemory: one VM's RAM as frames of 4 KiB, with the kernel's habits: seals survive as marks
// on holes, a discard wakes nobody, an install wakes only its own pages, events may be stale,
// doubled or out of order.
//
// Engine side: machine/guest_memory.h. Guest side: touch() for vCPUs, release() for balloon and
// free-page reports, take_faults() for the worker's event loop. One thread. See sim_world.h for
// interleaving points.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "machine/guest_memory.h"
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

  // Guest side. The frame to read or write now, or nullptr: the vCPU sleeps until it is woken, then
  // tries again.
  std::byte* touch(uint32_t vcpu, PageIndex page, bool write);
  bool asleep(uint32_t vcpu) const;
  // The page on which a sleeper waits.
  std::optional<PageIndex> waits_for(uint32_t vcpu) const;
  // The VM's side frees a frame. The caller sets the discard bit before and after.
  void release(PageIndex page);
  void set_discard_bit(PageIndex page);

  // Worker's side: takes up to `limit` events.
  std::vector<Fault> take_faults(size_t limit);
  bool has_faults() const { return !faults_.empty(); }

  // The VM's side takes no samples for now, and says so.
  void refuse_samples(bool refuse) { samples_refused_ = refuse; }
  void die() { dead_ = true; }
  bool dead() const { return dead_; }
  uint32_t frames() const { return frames_; }
  bool present(PageIndex page) const { return pages_[page.raw()].frame != nullptr; }

 private:
  enum class Sample : uint8_t { kNone, kArmed, kTouched };
  struct Page {
    std::unique_ptr<std::byte[]> frame;
    bool sealed = false;  // on a hole: a mark that the next install overwrites
    Sample sample = Sample::kNone;
  };
  struct Sleeper {
    uint32_t vcpu;
    PageIndex page;
  };
  struct PendingSample {
    Nanoseconds ready;
    PageRun run;
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

  SimWorld& world_;
  const uint32_t vm_;
  const SimMemoryOptions options_;
  std::vector<Page> pages_;
  std::vector<Sleeper> sleepers_;
  std::vector<uint32_t> write_intent_;  // vCPUs whose retried read is a write to the kernel
  std::deque<Fault> faults_;
  std::vector<PendingSample> pending_samples_;
  std::vector<std::atomic<uint64_t>> discard_bits_;
  uint32_t frames_ = 0;
  bool dead_ = false;
  bool samples_refused_ = false;
};

}  // namespace ballast::machine::sim
