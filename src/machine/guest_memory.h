// GuestMemory: the memory of one VM as the engine sees it. Part of the machine contract.
//
// A page either has a frame (it is *present*) or is a hole; only the frame's bytes or, for a hole,
// zeros can be read from here: what the engine stored elsewhere is the engine's business. A vCPU
// that touches a hole sleeps and raises a Fault of kind kMissing; one that writes a sealed page
// sleeps and raises kSealed. Any event may be stale or doubled: the engine decides by page state
// alone.
//
// Calls come from the VM's worker only, take runs of any length within page_count(), and may be
// interrupted by guest accesses at any point between two pages. They never block on a disk or on
// another VM. Failures: kGone means the VM died and the worker should detach it; nothing else is
// possible.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/units.h"

namespace ballast::machine {

enum class MemoryResult { kOk, kGone };

enum class InstallStop {
  kDone,            // the whole run was installed
  kAlreadyPresent,  // the page at first + installed has a frame already; its sleepers were not
                    // woken
  kRetry,           // the kernel asks to try again later (a mapping change is in progress)
  kGone,            // the VM died
};

struct InstallResult {
  uint32_t installed =
      0;  // pages [first, first + installed) are present now and their sleepers woken
  InstallStop stop = InstallStop::kDone;
};

// Whether installed pages trap on their first write (clean tracking) or are plainly writable.
enum class Sealing { kSealed, kWritable };

enum class FaultKind { kMissing, kSealed };
struct Fault {
  PageIndex page;
  FaultKind kind = FaultKind::kMissing;
  bool write = false;  // a hint: under KVM's asynchronous faults reads arrive as writes
};

// The end of a change of mappings (start_share, start_home).
struct Remapped {
  enum class Kind { kShare, kHome };
  Kind kind = Kind::kShare;
  PageRun run;
  // False: nothing was changed: the VM's side refused (a page of the run was given up by the guest
  // meanwhile, or there are too many mappings).
  bool done = false;
  // kShare, done: bit i says that page run.first + i was written between two steps of the VM's
  // side. The guest has a private copy of it already; writes to it trap like the others'.
  uint64_t written = 0;
};

class GuestMemory {
 public:
  static constexpr uint32_t kRemapPagesMax = 64;  // of one start_share or start_home

  virtual ~GuestMemory() = default;

  virtual uint32_t page_count() const = 0;

  // After return every write to a present page of the run raises kSealed. Holes are unaffected or
  // stay marked.
  [[nodiscard]] virtual MemoryResult seal(PageRun run) = 0;
  // Writes pass again; sleeping writers wake.
  [[nodiscard]] virtual MemoryResult unseal(PageRun run) = 0;
  // Copies contents; holes read as zeros and stay holes. `into` holds exactly the run.
  [[nodiscard]] virtual MemoryResult read(PageRun run, std::span<std::byte> into) = 0;
  // Frees the frames; the bytes are gone and the next touch raises kMissing.
  [[nodiscard]] virtual MemoryResult discard(PageRun run) = 0;
  // Fills holes with contents (exactly the run) or zeros and wakes sleepers. Stops at the first
  // page that is present.
  [[nodiscard]] virtual InstallResult install(PageRun run, std::span<const std::byte> contents,
                                              Sealing sealing) = 0;
  [[nodiscard]] virtual InstallResult install_zero(PageRun run) = 0;
  // Wakes every sleeper in the run without changing pages; each retries its access and may fault
  // again.
  [[nodiscard]] virtual MemoryResult wake(PageRun run) = 0;
  // Appends the maximal runs of present pages within `run`, in order.
  [[nodiscard]] virtual MemoryResult find_present(PageRun run, std::vector<PageRun>& present) = 0;

  // Guest discards (balloon, free-page reports): one bit per page, set by the VM's side before
  // *and* after it freed the frame, cleared by the engine. A set bit says: the guest gave this page
  // up, stored copies are void. The guest cannot legitimately use the page again before the second
  // set. Relaxed words, acquire on exchange.
  virtual std::span<std::atomic<uint64_t>> discard_bits() = 0;

  // Access sampling. start_sample: from some moment soon, first touches of the run's present pages
  // are recorded (asynchronous, best effort); false if it is known that not all will be. touched:
  // bit i of the result says whether page first+i was touched since; pages whose sample never
  // started read as touched. Without the ability can_sample() is false.
  virtual bool can_sample() const = 0;
  virtual bool start_sample(std::span<const PageRun> runs) = 0;
  [[nodiscard]] virtual MemoryResult touched(PageRun run, std::span<uint64_t> bits) = 0;

  // Sharing. A page may be mapped to a frame of a share pool instead of its own place in the RAM
  // file: it is *away*. Reads of it raise nothing; a write raises kSealed, and after unseal() the
  // kernel gives the guest a private copy: a frame that no call here sees. A page that is away is
  // not read, installed or discarded; only unsealed, woken and sent home. Samples leave it out: it
  // reads as touched. Before a guest's discard of it takes effect the VM's side sends it home by
  // itself; it is a hole then.
  //
  // start_share asks for `run` to be mapped to consecutive frames, from `first`, of the pool that
  // the VM was admitted with. The pages are present, sealed, and hold what the frames hold; they
  // must not be unsealed until the end is known. Their own frames stay: discard() them afterwards.
  // start_home asks for pages that are, or may be, away to come back: what the guest has there,
  // private copies or the pool's frames, is copied into the RAM file and that is mapped; pages that
  // were not away stay as they are. Afterwards unseal() them. Runs are of at most kRemapPagesMax
  // pages. Both return false when they cannot be asked now.
  //
  // Ends arrive in the order of the requests, by poll_remapped(). Whether requests without an end
  // (the VM's side connected anew: remaps_lost()) were carried out is unknown; start_home settles
  // it. Without the ability can_share() is false and nothing of this is used.
  virtual bool can_share() const { return false; }
  [[nodiscard]] virtual bool start_share(PageRun /*run*/, FrameIndex /*first*/) { return false; }
  [[nodiscard]] virtual bool start_home(PageRun /*run*/) { return false; }
  virtual bool poll_remapped(Remapped& /*end*/) { return false; }
  // True once after requests were lost; none is under way then.
  virtual bool remaps_lost() { return false; }
};

}  // namespace ballast::machine
