// ShareGroups: the salt groups of this host and their pools.
//
// A VM that is powered on enters the group of its name, which is made when it is the first. One
// that comes back from an earlier daemon brings its group's pool along; if several come back with
// the same pool they are one group again. Main thread only.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/share/share_group.h"
#include "machine/linux/share_pool.h"

namespace ballast::daemon {

class ShareGroups {
 public:
  explicit ShareGroups(engine::Ledger& ledger) : ledger_(ledger) {}

  struct Entry {
    engine::ShareGroup* group = nullptr;
    linux_machine::LinuxSharePool* pool = nullptr;
  };
  Result<Entry> of_new(const std::string& name);
  Result<Entry> of_returned(const std::string& name, linux_machine::UniqueFd pool);
  // A member left: a group without members ends, and its frames with it.
  void tidy();
  // All VMs of the last daemon are back.
  void end_recovery();

 private:
  Result<Entry> make(const std::string& name, std::unique_ptr<linux_machine::LinuxSharePool> pool);

  struct Owned {
    std::unique_ptr<engine::ShareGroup> group;
    linux_machine::LinuxSharePool* pool;  // the group's
  };
  engine::Ledger& ledger_;
  std::vector<Owned> groups_;
};

// The clock rates of all CPUs added up; 0 where the kernel does not tell.
double cpu_ghz();

}  // namespace ballast::daemon
