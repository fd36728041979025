// SimVmStore: the memory that outlives the daemon, and SimVmControl: what the engine asked of the
// VM.
//
// Both parts lie in memfds, so that frames are allocated by the first store and can be counted
// exactly. One thread.
#pragma once

#include <string>
#include <vector>

#include "base/run_clock.h"
#include "machine/sim/sim_world.h"
#include "machine/vm_control.h"
#include "machine/vm_store.h"

namespace ballast::machine::sim {

class SimVmStore final : public VmStore {
 public:
  SimVmStore(SimWorld& world, uint32_t vm, size_t tables_bytes, size_t arena_bytes);
  ~SimVmStore() override;
  SimVmStore(const SimVmStore&) = delete;
  SimVmStore& operator=(const SimVmStore&) = delete;

  std::span<std::byte> tables() override { return tables_; }
  std::span<std::byte> arena() override { return arena_; }
  void release_arena(size_t offset_bytes, size_t bytes) override;

  // Bytes of the frames behind each part.
  uint64_t tables_bytes() const;
  uint64_t arena_bytes() const;
  // Changes one bit somewhere in the arena's frames (canary). False if it has none.
  bool flip_arena_bit();

 private:
  SimWorld& world_;
  const uint32_t vm_;
  int tables_fd_;
  int arena_fd_;
  std::span<std::byte> tables_;
  std::span<std::byte> arena_;
};

class SimVmControl final : public VmControl {
 public:
  explicit SimVmControl(SimWorld& world) : world_(world) {}

  struct Event {
    Severity severity;
    std::string kind;
    std::string message;
  };

  void freeze(const char*) override {
    if (world_.abandoned()) return;
    set_frozen(true);
    world_.note("freeze");
    world_.point();
  }
  void event(Severity severity, std::string kind, std::string message) override {
    if (world_.abandoned()) return;
    world_.note(kind);
    events_.push_back({severity, std::move(kind), std::move(message)});
    world_.point();
  }

  // An operator let the VM run again.
  void resume() { set_frozen(false); }
  bool frozen() const { return frozen_; }
  const std::vector<Event>& events() const { return events_; }
  Nanoseconds run_time() const override { return runs_.at(world_.peek()); }

 private:
  void set_frozen(bool frozen) {
    frozen_ = frozen;
    runs_.set_running(!frozen, world_.peek());
  }

  SimWorld& world_;
  bool frozen_ = false;
  RunClock runs_;
  std::vector<Event> events_;
};

}  // namespace ballast::machine::sim
