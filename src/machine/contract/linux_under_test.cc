// The Linux machine, offered to the contract suite: a guest in this process whose vCPUs are
// threads.
#include <poll.h>
#include <sys/stat.h>

#include <array>
#include <atomic>
#include <chrono>
#include <thread>

#include "machine/contract/under_test.h"
#include "machine/linux/swap_file.h"
#include "machine/linux/test_guest.h"
#include "machine/linux/vm_store.h"

namespace ballast::machine::contract {

namespace {

using linux_machine::MemfdStore;
using linux_machine::SwapFile;
using linux_machine::TestGuest;
using linux_machine::UffdMemory;

constexpr int kSoonMs = 5000;
constexpr int kAWhileMs = 30;

class LinuxMemoryUnderTest final : public MemoryUnderTest {
 public:
  explicit LinuxMemoryUnderTest(std::unique_ptr<TestGuest> guest)
      : guest_(std::move(guest)), memory_(guest_->open_memory()) {
    for (Vcpu& vcpu : vcpus_) {
      vcpu.thread = std::thread([&vcpu] { run(vcpu); });
    }
  }

  ~LinuxMemoryUnderTest() override {
    // A failed test may leave a vCPU asleep: let it through before the thread is joined.
    std::thread rescue([this] {
      while (!joined_.load()) {
        (void)memory_->unseal({PageIndex(0), kPages});
        for (uint32_t page = 0; page < kPages; ++page) {
          (void)memory_->install_zero({PageIndex(page), 1});
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    });
    for (Vcpu& vcpu : vcpus_) {
      vcpu.command.store(Command::kStop);
      vcpu.command.notify_one();
    }
    for (Vcpu& vcpu : vcpus_) vcpu.thread.join();
    joined_.store(true);
    rescue.join();
  }

  GuestMemory& memory() override { return *memory_; }
  void begin_read(int vcpu, PageIndex page) override { begin(vcpu, page, Command::kRead, 0); }
  void begin_write(int vcpu, PageIndex page, uint64_t value) override {
    begin(vcpu, page, Command::kWrite, value);
  }
  bool ends(int vcpu) override {
    for (int ms = 0; ms < kSoonMs; ++ms) {
      if (idle(vcpu)) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return idle(vcpu);
  }
  bool sleeps(int vcpu) override {
    std::this_thread::sleep_for(std::chrono::milliseconds(kAWhileMs));
    return !idle(vcpu);
  }
  uint64_t value_read(int vcpu) override { return at(vcpu).value; }
  std::optional<Fault> next_fault() override {
    std::array<Fault, 1> fault;
    for (int ms = 0; ms < kSoonMs; ms += 10) {
      if (memory_->read_faults(fault) == 1) return fault[0];
      pollfd watch{memory_->fault_fd(), POLLIN, 0};
      (void)::poll(&watch, 1, 10);
    }
    return std::nullopt;
  }
  void guest_discards(PageIndex page) override {
    // As the agent does, with the bits as the daemon maps them.
    set_bit(page);
    (void)memory_->discard({page, 1});
    set_bit(page);
  }
  void let_time_pass() override {
    std::this_thread::sleep_for(std::chrono::milliseconds(kAWhileMs));
  }

 private:
  enum class Command : int { kIdle, kRead, kWrite, kStop };
  struct Vcpu {
    std::thread thread;
    std::atomic<Command> command = Command::kIdle;
    uint64_t* word = nullptr;
    uint64_t value = 0;
  };

  static void run(Vcpu& vcpu) {
    for (;;) {
      vcpu.command.wait(Command::kIdle);
      const Command command = vcpu.command.load();
      if (command == Command::kStop) return;
      if (command == Command::kRead) {
        vcpu.value = __atomic_load_n(vcpu.word, __ATOMIC_SEQ_CST);
      } else {
        __atomic_store_n(vcpu.word, vcpu.value, __ATOMIC_SEQ_CST);
      }
      Command expected = command;
      if (!vcpu.command.compare_exchange_strong(expected, Command::kIdle)) return;
    }
  }
  Vcpu& at(int vcpu) { return vcpus_[static_cast<size_t>(vcpu)]; }
  bool idle(int vcpu) { return at(vcpu).command.load() == Command::kIdle; }
  void begin(int vcpu, PageIndex page, Command command, uint64_t value) {
    at(vcpu).word = reinterpret_cast<uint64_t*>(guest_->page(page.raw()));
    at(vcpu).value = value;
    at(vcpu).command.store(command);
    at(vcpu).command.notify_one();
  }
  void set_bit(PageIndex page) {
    memory_->discard_bits()[page.raw() / 64].fetch_or(uint64_t{1} << (page.raw() % 64));
  }

  std::unique_ptr<TestGuest> guest_;
  std::unique_ptr<UffdMemory> memory_;
  std::array<Vcpu, 2> vcpus_;
  std::atomic<bool> joined_ = false;
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

}  // namespace

std::unique_ptr<MemoryUnderTest> make_memory(std::string& why_not) {
  auto guest = TestGuest::make({100, kPages - 100}, why_not);
  if (!guest) return nullptr;
  return std::make_unique<LinuxMemoryUnderTest>(std::move(guest));
}

// Requests to share are carried out by the library in QEMU, which this guest does without.
std::unique_ptr<MemoryUnderTest> make_share_memory(std::string& why_not) {
  auto machine = make_memory(why_not);
  if (machine && !machine->memory().can_share()) {
    why_not = "the VM's side cannot share";
    return nullptr;
  }
  return machine;
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
