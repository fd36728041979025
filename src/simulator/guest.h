// Guest: one simulated operating system: vCPUs that walk through memory, check what they read
// against the oracle and write new contents, and pages that it gives up: at random, as free-page
// reports do, and for its balloon. One step at a time, whenever the loop or an interleaving point
// lets it run. A vCPU asleep in a fault tries the same access again when it was woken, as hardware
// does.
//
// What the balloon may have are the pages that the workload never uses, then a part of the others
// (VmPlan::spare), which the workload walks around until they are returned.
#pragma once

#include <vector>

#include "base/random.h"
#include "machine/sim/sim_balloon.h"
#include "machine/sim/sim_guest_memory.h"
#include "simulator/oracle.h"
#include "simulator/scenario.h"

namespace ballast::simulator {

class Guest final : public machine::sim::BalloonedGuest {
 public:
  Guest(uint32_t vm, const VmPlan& plan, machine::sim::SimGuestMemory& memory, uint64_t seed);

  // One step of some vCPU or of a discard. True if an access completed.
  bool step();
  // True once after discard bits were set: the VM's side told the daemon.
  bool take_discard_notice();

  // For its balloon's driver. A page that was taken is discarded by the steps that follow, and can
  // be returned after that.
  machine::GuestStats memory() const override;
  Page take_page() override;
  bool return_page() override;
  void return_all() override;

  uint64_t accesses() const { return accesses_; }
  uint64_t accesses_of(uint32_t vcpu) const { return vcpus_[vcpu].done; }
  uint64_t verified_pages() const { return verified_; }
  uint64_t ballooned_pages() const { return taken_; }  // so far
  uint64_t checksum_errors() const { return errors_; }
  // Wrong data is counted and not fatal (for the demo, whose summary tells it).
  void count_errors() { fatal_ = false; }

 private:
  struct Vcpu {
    bool open = false;  // an access is under way
    bool write = false;
    uint8_t halves = 0;  // still to write
    Kind kind = Kind::kNoise;
    uint32_t version = 0;  // of kCommon
    PageIndex page;
    uint32_t cursor = 0;
    uint32_t boot_left = 0;
    uint64_t done = 0;
  };
  bool step_vcpu(uint32_t index);
  bool choose(Vcpu& vcpu);
  uint32_t choose_page(Vcpu& vcpu);
  Kind choose_kind();
  void choose_content(Vcpu& vcpu, bool boots);
  bool find_away(uint32_t& page);
  void write_part(Vcpu& vcpu, std::byte* frame);
  void check(PageIndex page, const std::byte* frame);
  bool in_use(uint32_t page) const;
  bool can_spare(uint32_t page) const;
  uint32_t spare_pages() const;
  void step_discard();
  void choose_discard();
  void begin_discard();
  void end_discard();
  void put_back(uint32_t page);

  const uint32_t vm_;
  const VmPlan plan_;
  machine::sim::SimGuestMemory& memory_;
  Random random_;
  Oracle oracle_;
  std::vector<Vcpu> vcpus_;
  uint32_t hot_base_ = 0;
  uint32_t kind_weights_ = 0;

  std::vector<uint32_t> discarding_;  // pages of the discard under way
  size_t discarded_ = 0;              // of them, frames freed already
  bool discard_notice_ = false;

  std::vector<bool> ballooned_;    // by page: taken and not returned
  std::vector<uint32_t> unused_;   // pages that the workload never uses, not in the balloon
  std::vector<uint32_t> pledged_;  // taken, not discarded yet
  std::vector<uint32_t> balloon_;  // taken and discarded
  bool inflating_ = false;         // the discard under way is the balloon's
  uint32_t spared_ = 0;            // of the pages that the workload uses, those in the balloon

  uint64_t accesses_ = 0;
  uint64_t verified_ = 0;
  uint64_t taken_ = 0;
  uint64_t errors_ = 0;
  bool fatal_ = true;
};

}  // namespace ballast::simulator
