// Members: who is managed, written down so that the next daemon knows whom to expect.
//
// After a daemon's death its VMs come back one by one. Until a VM is back its memory is still
// there: the new daemon counts it from the files that the VM's process holds, and keeps it charged,
// so that those who are back earlier cannot grow into memory that is taken. A VM without a daemon
// cannot grow (its faults wait), so the count cannot be too low. RUN_DIR/members: one line per VM,
// "pid start-time overhead-bytes name", replaced as a whole. Main thread only.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/ledger/ledger.h"
#include "machine/linux/vm_process.h"

namespace ballast::daemon {

class Members {
 public:
  Members(std::string run_dir, engine::Ledger& ledger);

  // Reads what the last daemon left; charges every VM that lives. Lines that make no sense are
  // skipped.
  void expect_the_last_daemons();
  // The VM is back: what was charged for it becomes the ledger's credit for the take-over that
  // follows.
  void returned(const std::string& name, pid_t pid);
  // After that take-over. If it failed the VM's memory is there all the same, and charged until its
  // process dies.
  void took_over() { ledger_.drop_credit(); }
  void failed_to_take_over(const std::string& name, pid_t pid);
  // Gives back what is charged for processes that died meanwhile.
  void bury_the_dead();
  size_t absent() const { return absent_.size(); }

  // `overhead_bytes`: what the engine charges for the VM beside the files that its process holds.
  void add(const std::string& name, pid_t pid, uint64_t overhead_bytes);
  void remove(const std::string& name);

 private:
  struct Absent {
    std::string name;
    linux_machine::VmProcess process;
    uint64_t bytes;
    uint64_t overhead_bytes;
  };
  struct Present {
    pid_t pid;
    uint64_t overhead_bytes;
  };
  using Files = std::set<std::pair<uint64_t, uint64_t>>;  // device, inode
  void expect(const std::string& name, pid_t pid, uint64_t overhead_bytes, Files& seen);
  void write() const;

  const std::string path_;
  engine::Ledger& ledger_;
  std::map<std::string, Present> present_;
  uint64_t returning_overhead_ = 0;
  std::vector<Absent> absent_;
};

}  // namespace ballast::daemon
