// Groups: the salt groups of the simulated host: their pools, which the VMs' processes hold open,
// and what the daemon makes of them while it lives.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/share/share_group.h"
#include "machine/sim/sim_share_pool.h"

namespace ballast::simulator {

class Groups {
 public:
  Groups(machine::sim::SimWorld& world, uint32_t frames, uint32_t hash_bits)
      : world_(world), frames_(frames), hash_bits_(hash_bits) {}

  // For a VM that starts. Stays while the group has members, dead or alive.
  machine::sim::SimSharePool& pool(const std::string& name);

  struct Membership {
    engine::ShareGroup* group = nullptr;
    uint32_t number = 0;
  };
  // The daemon meets a VM, new or come back.
  Membership enter(const std::string& name, uint32_t pages, engine::Ledger& ledger);
  // All VMs are back.
  void end_recovery();
  // Groups that nobody is in any more end. Fails if one of them keeps frames.
  void tidy();

  // The daemon ends in good order, or is killed: then its groups are for the graveyard.
  void end_daemon();
  std::vector<std::unique_ptr<engine::ShareGroup>> bury();

  uint64_t pool_bytes() const;
  // Compares a group's books with the entries of its members: how often each frame is named.
  void audit(const engine::ShareGroup& group, const std::vector<uint32_t>& named) const;

 private:
  struct Group {
    std::string name;
    std::unique_ptr<machine::sim::SimSharePool> pool;
    std::unique_ptr<engine::ShareGroup> made;  // by the daemon
  };
  Group& find_or_make(const std::string& name);

  machine::sim::SimWorld& world_;
  const uint32_t frames_;
  const uint32_t hash_bits_;
  std::vector<Group> groups_;
  uint32_t pools_ = 0;  // ever made
};

}  // namespace ballast::simulator
