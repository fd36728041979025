// The simulated machine, offered to the contract suite. Honest options: no injected misbehaviour.
#include <cstring>

#include "machine/contract/under_test.h"
#include "machine/sim/sim_guest_memory.h"
#include "machine/sim/sim_swap_device.h"
#include "machine/sim/sim_vm_store.h"

namespace ballast::machine::contract {

namespace {

using sim::SimWorld;

class SimMemoryUnderTest final : public MemoryUnderTest {
 public:
  explicit SimMemoryUnderTest(bool shares) : memory_(world_, 1, options()), shares_(shares) {
    if (shares) memory_.set_pool(pool_);
  }

  GuestMemory& memory() override { return memory_; }
  void begin_read(int vcpu, PageIndex page) override { access_[vcpu] = {true, false, page, 0}; }
  void begin_write(int vcpu, PageIndex page, uint64_t value) override {
    access_[vcpu] = {true, true, page, value};
  }
  bool ends(int vcpu) override {
    step();
    return !access_[vcpu].open;
  }
  bool sleeps(int vcpu) override {
    step();
    return access_[vcpu].open && memory_.asleep(static_cast<uint32_t>(vcpu));
  }
  uint64_t value_read(int vcpu) override { return access_[vcpu].value; }
  std::optional<Fault> next_fault() override {
    step();
    const auto faults = memory_.take_faults(1);
    if (faults.empty()) return std::nullopt;
    return faults.front();
  }
  void guest_discards(PageIndex page) override {
    memory_.set_discard_bit(page);
    memory_.release(page);
    memory_.set_discard_bit(page);
  }
  void let_time_pass() override { world_.advance(kMillisecond); }
  SharePool* pool() override { return shares_ ? &pool_ : nullptr; }
  bool slip_in(Remapped::Kind kind, int vcpu, PageIndex page, uint64_t value) override {
    // Its own frame is freed after the share, and there again from the copy on.
    const bool home = kind == Remapped::Kind::kHome;
    const auto between = [&] { return memory_.away(page) && (!home || memory_.present(page)); };
    for (int us = 0; us < 1000 && !between(); ++us) {
      world_.advance(kMicrosecond);
      memory_.step_remaps();
    }
    BALLAST_CHECK(between());
    begin_write(vcpu, page, value);
    step();
    return true;
  }
  void lose_requests() override { memory_.lose_link(); }

 private:
  struct Access {
    bool open = false;
    bool write = false;
    PageIndex page;
    uint64_t value = 0;
  };
  static sim::SimMemoryOptions options() {
    sim::SimMemoryOptions options;
    options.page_count = kPages;
    options.retries = 100;
    options.busy_remaps = 100;
    return options;
  }
  void step() {
    for (uint32_t vcpu = 0; vcpu < 2; ++vcpu) {
      Access& access = access_[vcpu];
      if (!access.open || memory_.asleep(vcpu)) continue;
      std::byte* frame = memory_.touch(vcpu, access.page, access.write);
      if (frame == nullptr) continue;
      if (access.write) {
        std::memcpy(frame, &access.value, 8);
      } else {
        std::memcpy(&access.value, frame, 8);
      }
      access.open = false;
    }
  }

  SimWorld world_{42};
  sim::SimSharePool pool_{world_, 1, kFrames};
  sim::SimGuestMemory memory_;
  const bool shares_;
  Access access_[2];
};

class SimSwapUnderTest final : public SwapUnderTest {
 public:
  SimSwapUnderTest() : device_(world_, 1, options()) {}
  SwapDevice& device() override { return device_; }
  void let_time_pass() override { world_.advance(kMillisecond); }

 private:
  static sim::SimSwapOptions options() {
    sim::SimSwapOptions options;
    options.slot_count = kSlots;
    options.slow = 100;
    return options;
  }
  SimWorld world_{43};
  sim::SimSwapDevice device_;
};

class SimStoreUnderTest final : public StoreUnderTest {
 public:
  SimStoreUnderTest() : store_(world_, 1, kTablesBytes, kArenaBytes) {}
  VmStore& store() override { return store_; }
  void reopen() override {}  // the same object outlives the simulated daemon
  uint64_t arena_frames_bytes() override { return store_.arena_bytes(); }

 private:
  SimWorld world_{44};
  sim::SimVmStore store_;
};

}  // namespace

std::unique_ptr<MemoryUnderTest> make_memory(std::string&) {
  return std::make_unique<SimMemoryUnderTest>(false);
}
std::unique_ptr<MemoryUnderTest> make_share_memory(std::string&) {
  return std::make_unique<SimMemoryUnderTest>(true);
}
std::unique_ptr<SwapUnderTest> make_swap(std::string&) {
  return std::make_unique<SimSwapUnderTest>();
}
std::unique_ptr<StoreUnderTest> make_store(std::string&) {
  return std::make_unique<SimStoreUnderTest>();
}

}  // namespace ballast::machine::contract
