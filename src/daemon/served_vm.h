// ServedVm: one VM on the Linux machine: its memory, store, swap file and pager, and the worker
// thread that owns them.
//
// The worker's loop: faults first, then I/O completions, then what others posted, then one bounded
// turn of background work; when there is nothing it waits (adaptively on the CPU, then in poll).
// Other threads reach the VM only through post(), ring(), report() and stop().
#pragma once

#include <poll.h>
#include <sys/types.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/latency.h"
#include "base/run_clock.h"
#include "daemon/event_log.h"
#include "daemon/fault_wait.h"
#include "engine/host.h"
#include "engine/pager.h"
#include "machine/linux/agent_link.h"
#include "machine/linux/attach.h"
#include "machine/linux/clock.h"
#include "machine/linux/share_pool.h"
#include "machine/linux/swap_file.h"
#include "machine/linux/uffd_memory.h"
#include "machine/linux/unique_fd.h"
#include "machine/linux/vm_process.h"
#include "machine/linux/vm_store.h"
#include "machine/vm_control.h"

namespace ballast::daemon {

using linux_machine::UniqueFd;

class ServedVm final : private machine::VmControl {
 public:
  struct Parts {
    VmSpec spec;
    linux_machine::Attachment attachment;
    std::unique_ptr<linux_machine::MemfdStore> store;
    std::unique_ptr<linux_machine::SwapFile> swap;
    std::optional<linux_machine::VmProcess> process;
    std::optional<VcpuHold> hold;
    engine::ShareGroup* share = nullptr;  // the salt group to enter; outlives the VM
    linux_machine::LinuxSharePool* share_pool = nullptr;
    uint64_t share_mappings_max = 0;
  };
  enum class Kind { kNew, kTakenOver };
  // Called once, from the worker, when the VM is gone: the owner should destroy it (from another
  // thread).
  using OnLeft = std::function<void(const std::string& name)>;

  static Result<std::unique_ptr<ServedVm>> create(Parts parts, Kind kind, engine::Ledger& ledger,
                                                  const Options& options, EventLog& log,
                                                  OnLeft on_left);
  ~ServedVm() override;
  ServedVm(const ServedVm&) = delete;
  ServedVm& operator=(const ServedVm&) = delete;

  // The connection over which the VM was accepted; before start().
  void set_agent(std::unique_ptr<linux_machine::AgentLink> agent) { agent_ = std::move(agent); }

  void start();
  // Lets the worker finish its step and end. The guest, if it lives, sleeps at its next fault.
  void stop();

  // Runs `work` on the worker. Any thread.
  void post(std::function<void(ServedVm&)> work);
  // Makes the worker look whether it should reclaim. Any thread.
  void ring();
  // Makes room on the disk for so much swapped memory; the worker learns of it. Any thread.
  Status grow_swap(uint64_t bytes);
  // Fills in what only this VM's side knows.
  void add_to(VmReport& report) const;

  // For work that was posted: on the worker only.
  void rejoin(std::unique_ptr<linux_machine::AgentLink> agent);  // the agent connected again
  // After a freeze: tries lost pages again and lets the VM run.
  void resume();
  void reclaim(uint64_t bytes) { pager_->reclaim(pages_ceil(bytes)); }
  // QEMU says that the guest does not run, for whatever reason; or runs again.
  void set_paused(bool paused);

  // What the agent keeps for the next daemon, and the group whose pool is among it.
  struct Kept {
    const linux_machine::MemfdStore* store;
    const linux_machine::SwapFile* swap;
    const linux_machine::LinuxSharePool* pool;
    engine::ShareGroup* group;
  };
  Kept kept() const { return {store_.get(), swap_.get(), share_pool_, share_}; }

  engine::Pager& pager() { return *pager_; }
  const VmSpec& spec() const { return spec_; }
  const linux_machine::HandOff& hand_off() const { return hand_off_; }
  const std::vector<linux_machine::FileId>& ram_ids() const { return ram_ids_; }
  pid_t pid() const { return process_.pid(); }
  bool known_as_paused = false;  // the owner's note of the last set_paused()
  // Looks whether pages were compressed or swapped since the last look, and when. The owner's
  // thread, as add_to().
  void note_paging();
  bool frozen() const { return frozen_because_.load() != nullptr; }

 private:
  ServedVm(Parts parts, EventLog& log, OnLeft on_left, const Options& options);

  void freeze(const char* why) override;
  Nanoseconds run_time() const override { return runs_.at(clock_.now()); }
  void event(machine::Severity severity, std::string kind, std::string message) override;

  void run();
  bool serve_faults();
  bool run_posted();
  void read_agent();
  // Polls for a while, as FaultWait says. True if something was found and handled.
  bool poll_for_more();
  void wait(bool soon);
  int idle_ms() const;
  void note_running();
  void leave(const char* why);
  void hang_up(std::string why);
  bool zap(std::span<const AgentRange> ranges);

  const VmSpec spec_;
  const linux_machine::HandOff hand_off_;
  const std::vector<linux_machine::FileId> ram_ids_;
  EventLog& log_;
  const OnLeft on_left_;
  linux_machine::MonotonicClock clock_;

  engine::ShareGroup* share_ = nullptr;
  linux_machine::LinuxSharePool* share_pool_ = nullptr;
  uint32_t share_member_ = 0;

  // Destroyed in this order reversed: frames go (last close) before the ledger hears of it.
  std::unique_ptr<engine::Pager> pager_;
  std::unique_ptr<linux_machine::SwapFile> swap_;
  std::unique_ptr<linux_machine::MemfdStore> store_;
  std::unique_ptr<linux_machine::UffdMemory> memory_;
  std::unique_ptr<linux_machine::AgentLink> agent_;  // null while it is not connected
  linux_machine::VmProcess process_;
  UniqueFd bell_;  // eventfd

  std::mutex posted_lock_;  // guards posted_; held for a push or a swap only
  std::vector<std::function<void(ServedVm&)>> posted_;
  std::atomic<bool> stopping_ = false;
  std::atomic<const char*> frozen_because_ = nullptr;
  bool left_ = false;
  bool paused_ = false;  // by QEMU
  struct Paged {
    uint64_t pages = 0;
    uint64_t unix_ms = 0;  // when it was seen to grow last
  };
  Paged zipped_, swapped_out_;  // the owner's
  RunClock runs_;

  FaultWait waiting_;
  LatencyHistogram service_;
  std::thread thread_;
};

}  // namespace ballast::daemon
