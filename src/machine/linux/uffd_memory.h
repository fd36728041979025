// UffdMemory: GuestMemory over a userfaultfd and the shared RAM files of one VM.
//
// Page numbers count through the regions in the order of add_region; pages of regions that were not
// announced yet are holes that nobody can touch. Frames are reached through the RAM file (pread,
// punch) and through the userfaultfd (COPY, ZEROPAGE, WRITEPROTECT, WAKE) only, never through a
// mapping of our own: touching a hole would allocate it. Runs are split at region borders here.
//
// All calls come from the VM's worker. Nothing blocks: faults are read with RWF_NOWAIT, so that a
// VM that clears O_NONBLOCK on its own copy of the descriptor cannot stop the worker.
//
// Whatever an unexpected errno says, the answer is kGone and last_error() the reason: the other end
// of these descriptors is a process that we do not trust, so no errno is a bug of ours by itself.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "machine/guest_memory.h"
#include "machine/linux/mapping.h"
#include "machine/linux/remap_queue.h"
#include "machine/linux/unique_fd.h"
#include "proto/agent_wire.h"

namespace ballast::linux_machine {

// One mapping of a RAM file in the VM's address space. Bytes; everything is page-aligned.
struct Region {
  uint64_t address = 0;  // host virtual, in the VM's process
  uint64_t bytes = 0;
  int ram_fd = -1;  // borrowed: the file outlives the memory
  uint64_t file_offset = 0;
};

class UffdMemory final : public machine::GuestMemory {
 public:
  // Asks the VM's process to zap these ranges' page-table entries; false if the request was
  // dropped. At most kAgentSampleRangesMax ranges, must not block.
  using Zap = std::function<bool(std::span<const AgentRange>)>;

  struct Parts {
    UniqueFd uffd;
    uint32_t pages = 0;               // of the whole VM; regions may arrive later
    std::vector<Region> regions;      // in hand-off order
    std::vector<UniqueFd> ram_files;  // kept open as long as the memory
    UniqueFd discards;  // memfd of DiscardHeader + bits, F_SEAL_SHRINK set (attach.h sees to it)
    UniqueFd pagemap;   // /proc/PID/pagemap, or invalid: no sampling, no sharing
    Zap zap;            // or empty: no sampling
    RemapQueue::Senders remap;  // to the agent, which keeps the pool's descriptor; or empty: no
                                // sharing
  };
  static Result<std::unique_ptr<UffdMemory>> create(Parts parts);

  // Appends a region behind those known. Its pages had been counted in Parts::pages.
  void add_region(const Region& region, UniqueFd ram_file);

  uint32_t page_count() const override { return pages_; }
  [[nodiscard]] machine::MemoryResult seal(PageRun run) override;
  [[nodiscard]] machine::MemoryResult unseal(PageRun run) override;
  [[nodiscard]] machine::MemoryResult read(PageRun run, std::span<std::byte> into) override;
  [[nodiscard]] machine::MemoryResult discard(PageRun run) override;
  [[nodiscard]] machine::InstallResult install(PageRun run, std::span<const std::byte> contents,
                                               machine::Sealing sealing) override;
  [[nodiscard]] machine::InstallResult install_zero(PageRun run) override;
  [[nodiscard]] machine::MemoryResult wake(PageRun run) override;
  [[nodiscard]] machine::MemoryResult find_present(PageRun run,
                                                   std::vector<PageRun>& present) override;
  std::span<std::atomic<uint64_t>> discard_bits() override;
  bool can_sample() const override { return pagemap_.valid() && zap_ != nullptr; }
  bool start_sample(std::span<const PageRun> runs) override;
  [[nodiscard]] machine::MemoryResult touched(PageRun run, std::span<uint64_t> bits) override;

  bool can_share() const override { return pagemap_.valid() && remaps_.usable(); }
  [[nodiscard]] bool start_share(PageRun run, FrameIndex first) override;
  [[nodiscard]] bool start_home(PageRun run) override;
  bool poll_remapped(machine::Remapped& end) override;  // sends what was started, too
  bool remaps_lost() override { return remaps_.take_lost(); }
  // Sends what was started: requests of one turn of the worker travel together. Before the worker
  // sleeps; false if something is left, to be tried again soon.
  bool flush_remaps() { return remaps_.flush(); }
  // What the agent answered (AgentLink::Received::remapped).
  void take_remapped(std::span<const uint32_t> errors) { remaps_.take_results(errors); }
  // The agent connected anew and will not answer what was asked before.
  void lose_remaps() { remaps_.lose(); }

  // Takes the faults that are there, without waiting; at most faults.size(). Returns how many.
  [[nodiscard]] size_t read_faults(std::span<machine::Fault> faults);
  int fault_fd() const { return uffd_.get(); }  // readable when read_faults has something
  uint32_t last_fault_thread() const { return last_fault_thread_; }  // 0: unknown
  // Clears `pending` in the discard header: call before the bits are read (agent_wire.h).
  void begin_discards();
  // Wakes every sleeper of the VM: after a take-over, whose events the dead daemon had read.
  [[nodiscard]] machine::MemoryResult wake_all() { return wake({PageIndex(0), pages_}); }

  uint64_t unknown_faults() const { return unknown_faults_; }  // addresses outside every region
  uint64_t dropped_samples() const { return dropped_samples_; }
  const std::string& last_error() const { return last_error_; }  // why a call said kGone

 private:
  struct Placed {
    Region region;
    uint32_t first = 0;  // page number of its first page
    uint32_t pages = 0;
    uint32_t end() const { return first + pages; }
  };
  struct Piece {  // the part of a run that lies in one region
    uint64_t address = 0;
    uint64_t file_offset = 0;
    int ram_fd = -1;
    uint32_t first = 0;
    uint32_t pages = 0;
  };

  explicit UffdMemory(Parts parts);
  bool next_piece(PageRun& rest, Piece& piece) const;
  machine::MemoryResult write_protect(PageRun run, uint64_t mode);
  machine::MemoryResult punch(const Piece& piece);
  machine::MemoryResult gone(const char* call, int error_number);
  template <typename Install>
  machine::InstallResult install_pieces(PageRun run, const Install& install);
  machine::InstallResult copy_piece(uint64_t to, const std::byte* from, uint32_t pages,
                                    uint64_t mode);
  machine::InstallResult zero_piece(uint64_t to, uint32_t pages);
  machine::InstallStop stop_for(const char* call, int error_number);
  bool page_of(uint64_t address, PageIndex& page) const;
  bool read_pagemap(uint64_t address, std::span<uint64_t> entries);
  uint64_t written_pages(PageRun run);

  UniqueFd uffd_;
  uint32_t pages_;
  std::vector<Placed> regions_;
  std::vector<UniqueFd> ram_files_;
  UniqueFd discards_fd_;
  Mapping discards_;
  UniqueFd pagemap_;
  Zap zap_;
  RemapQueue remaps_;
  std::vector<uint64_t> pagemap_buffer_;
  bool nowait_reads_ = true;
  uint32_t last_fault_thread_ = 0;
  uint64_t unknown_faults_ = 0;
  uint64_t dropped_samples_ = 0;
  std::string last_error_;
};

}  // namespace ballast::linux_machine
