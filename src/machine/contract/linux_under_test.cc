// The Linux machine, offered to the contract suite: the guest is a process of its own with the real
// agent in it.
#include <fmt/format.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <thread>

#include "agent/agent_test_hold.h"
#include "agent/agent_test_vm.h"
#include "machine/contract/under_test.h"
#include "machine/linux/swap_file.h"
#include "machine/linux/test_guest.h"
#include "machine/linux/vm_store.h"

namespace ballast::machine::contract {

namespace {

using agent_test::AgentHold;
using agent_test::require;
using agent_test::TestVm;
using linux_machine::MemfdStore;
using linux_machine::SwapFile;

constexpr int kSoonMs = 5000;
constexpr int kAWhileMs = 30;
constexpr uint32_t kMemoryPages = kPages / 2;  // the VM has two memories

class LinuxMemoryUnderTest final : public MemoryUnderTest {
 public:
  explicit LinuxMemoryUnderTest(uint32_t frames) : vm_({kMemoryPages, kMemoryPages}, frames) {}

  GuestMemory& memory() override { return vm_.memory(); }
  SharePool* pool() override { return vm_.pool(); }
  void begin_read(int vcpu, PageIndex page) override {
    begin(vcpu, fmt::format("vcpu {} read {}", vcpu, in_memory(page)));
  }
  void begin_write(int vcpu, PageIndex page, uint64_t value) override {
    begin(vcpu, fmt::format("vcpu {} write {} {}", vcpu, in_memory(page), value));
  }
  bool ends(int vcpu) override { return answers(vcpu, kSoonMs); }
  bool sleeps(int vcpu) override { return !answers(vcpu, kAWhileMs); }
  uint64_t value_read(int vcpu) override { return at(vcpu).value; }
  std::optional<Fault> next_fault() override {
    std::array<Fault, 1> fault;
    pollfd watch{vm_.memory().fault_fd(), POLLIN, 0};
    while (::poll(&watch, 1, kSoonMs) == 1) {
      if (vm_.memory().read_faults(fault) == 1) return fault[0];
    }
    return std::nullopt;
  }
  void guest_discards(PageIndex page) override {
    vm_.toucher().send(fmt::format("punch {} {} {}", page.raw() / kMemoryPages,
                                   pages_to_bytes(page.raw() % kMemoryPages), kPageBytes));
    std::string reply = vm_.toucher().reply();
    for (; take_access(reply); reply = vm_.toucher().reply()) {
    }
    require(reply == "ok", "the guest's discard: " + reply);
  }
  void let_time_pass() override { vm_.take_messages(kAWhileMs); }

  bool slip_in(Remapped::Kind kind, int vcpu, PageIndex page, uint64_t value) override {
    AgentHold hold(vm_.toucher().pid());
    if (!hold.holds()) return false;
    vm_.memory().flush_remaps();
    if (kind == Remapped::Kind::kShare) {
      hold.go_on_until_ioctl(UFFDIO_WRITEPROTECT);
    } else {
      hold.go_on_until(SYS_mmap);
    }
    begin_write(vcpu, page, value);
    // The agent waits until it wrote, or sleeps.
    std::array<pollfd, 2> watch{
        {{vm_.toucher().output(), POLLIN, 0}, {vm_.memory().fault_fd(), POLLIN, 0}}};
    require(::poll(watch.data(), watch.size(), kSoonMs) > 0, "neither written nor asleep");
    return true;
  }
  void lose_requests() override {
    vm_.memory().flush_remaps();
    vm_.reconnect();
  }

 private:
  struct Vcpu {
    bool busy = false;
    uint64_t value = 0;
  };
  using Clock = std::chrono::steady_clock;

  static std::string in_memory(PageIndex page) {
    return fmt::format("{} {}", page.raw() / kMemoryPages, page.raw() % kMemoryPages);
  }
  Vcpu& at(int vcpu) { return vcpus_[static_cast<size_t>(vcpu)]; }
  void begin(int vcpu, const std::string& access) {
    at(vcpu).busy = true;
    vm_.toucher().send(access);
  }
  // False: the guest's answer to something else.
  bool take_access(const std::string& reply) {
    size_t vcpu = 0;
    unsigned long long value = 0;
    if (std::sscanf(reply.c_str(), "vcpu %zu %llu", &vcpu, &value) != 2) return false;
    vcpus_.at(vcpu) = {false, value};
    return true;
  }
  bool answers(int vcpu, int timeout_ms) {
    const auto end = Clock::now() + std::chrono::milliseconds(timeout_ms);
    while (at(vcpu).busy) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
      pollfd watch{vm_.toucher().output(), POLLIN, 0};
      if (left.count() <= 0 || ::poll(&watch, 1, static_cast<int>(left.count())) != 1) return false;
      require(take_access(vm_.toucher().reply()), "an answer to no access");
    }
    return true;
  }

  TestVm vm_;
  std::array<Vcpu, 2> vcpus_;
};

class LinuxSwapUnderTest final : public SwapUnderTest {
 public:
  explicit LinuxSwapUnderTest(std::unique_ptr<SwapFile> file) : file_(std::move(file)) {}
  SwapDevice& device() override { return *file_; }
  void let_time_pass() override { std::this_thread::sleep_for(std::chrono::milliseconds(1)); }

 private:
  std::unique_ptr<SwapFile> file_;
};

class LinuxStoreUnderTest final : public StoreUnderTest {
 public:
  explicit LinuxStoreUnderTest(std::unique_ptr<MemfdStore> store) : store_(std::move(store)) {}
  VmStore& store() override { return *store_; }
  void reopen() override {
    auto tables = store_->read_only_fd(MemfdStore::Part::kTables);
    auto arena = store_->read_only_fd(MemfdStore::Part::kArena);
    store_.reset();
    store_ = MemfdStore::adopt(std::move(tables).value(), std::move(arena).value(), kTablesBytes,
                               kArenaBytes)
                 .value();
  }
  uint64_t arena_frames_bytes() override {
    const auto file = store_->read_only_fd(MemfdStore::Part::kArena);
    struct stat status = {};
    BALLAST_CHECK(fstat(file.value().get(), &status) == 0);
    return static_cast<uint64_t>(status.st_blocks) * 512;
  }

 private:
  std::unique_ptr<MemfdStore> store_;
};

std::unique_ptr<MemoryUnderTest> make_linux_memory(uint32_t frames, std::string& why_not) {
  if (!linux_machine::open_userfaultfd(why_not).valid()) return nullptr;
  return std::make_unique<LinuxMemoryUnderTest>(frames);
}

}  // namespace

std::unique_ptr<MemoryUnderTest> make_memory(std::string& why_not) {
  return make_linux_memory(0, why_not);
}

std::unique_ptr<MemoryUnderTest> make_share_memory(std::string& why_not) {
  return make_linux_memory(kFrames, why_not);
}

std::unique_ptr<SwapUnderTest> make_swap(std::string& why_not) {
  auto file = SwapFile::create("/var/tmp", "contract", pages_to_bytes(kSlots));
  if (!file) {
    why_not = file.error().message;
    return nullptr;
  }
  return std::make_unique<LinuxSwapUnderTest>(std::move(file).value());
}

std::unique_ptr<StoreUnderTest> make_store(std::string& why_not) {
  auto store = MemfdStore::create("contract", kTablesBytes, kArenaBytes);
  if (!store) {
    why_not = store.error().message;
    return nullptr;
  }
  return std::make_unique<LinuxStoreUnderTest>(std::move(store).value());
}

}  // namespace ballast::machine::contract
