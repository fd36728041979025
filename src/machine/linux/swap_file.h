// SwapFile: SwapDevice over one nameless file, by io_uring and direct I/O.
//
// The file has no name (O_TMPFILE, or created and unlinked at once): when the daemon and the VM's
// agent, which keeps a descriptor, are both gone, nothing remains on the disk. All its space is
// reserved when it is made. Where the kernel or a container forbids io_uring, operations are
// performed one after another inside submit(); where the file system has no direct I/O, data goes
// through the page cache and is flushed and dropped from it before the operation counts as done, so
// that swapped pages do not hide in memory that nobody accounts for. notices() says which of these
// happened.
//
// All calls come from the VM's worker, create/adopt and the destructor from any one thread. The
// destructor waits for operations in flight: the disk would otherwise write into buffers that are
// somebody else's by then.
#pragma once

#include <liburing.h>

#include <array>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "machine/linux/unique_fd.h"
#include "machine/swap_device.h"

namespace ballast::linux_machine {

struct SwapFileChoices {  // for tests and benchmarks: what the environment may refuse anyway
  bool use_ring = true;
  bool use_direct = true;
};

class SwapFile final : public machine::SwapDevice {
 public:
  // Operations on the device at once. More wait in a queue: deeper queues only add latency to the
  // read that a fault waits for.
  static constexpr uint32_t kDepth = 64;

  // A new file of `bytes` (a multiple of 4 KiB, may be 0) in `directory`. `name` is used where
  // O_TMPFILE is missing.
  static Result<std::unique_ptr<SwapFile>> create(const std::string& directory,
                                                  const std::string& name, uint64_t bytes,
                                                  SwapFileChoices choices = {});
  // Takes over the file of a dead daemon from the (read-only) descriptor that the VM's agent kept.
  // It must have exactly `bytes`.
  static Result<std::unique_ptr<SwapFile>> adopt(UniqueFd kept, uint64_t bytes,
                                                 SwapFileChoices choices = {});
  // How long such a file is. Refuses what cannot be a file for so many bytes, grown or not.
  static Result<uint64_t> kept_bytes(int kept, uint64_t least, uint64_t most);
  ~SwapFile() override;

  uint32_t slot_count() const override { return slots_; }
  void write(SwapSlot first, std::span<const std::byte> bytes, machine::IoToken token) override;
  void read(SwapSlot first, std::span<std::byte> bytes, machine::IoToken token) override;
  void submit() override;
  [[nodiscard]] size_t poll(std::span<machine::IoDone> done) override;

  // Reserves space up to `bytes`, which may be more than before; slots do not change yet. Any
  // thread. Then take_extension() on the worker.
  Status extend(uint64_t bytes) const;
  void take_extension(uint64_t bytes) { slots_ = static_cast<uint32_t>(pages_floor(bytes)); }
  // Becomes readable when completions may be there. poll() until it returns 0.
  int wait_fd() const;
  uint32_t in_flight() const { return busy_ + static_cast<uint32_t>(backlog_.size()); }
  // A read-only descriptor for the agent to keep.
  Result<UniqueFd> read_only_fd() const;
  bool is_direct() const { return direct_; }
  bool has_ring() const { return has_ring_; }
  // One sentence for the operator per ability that is missing here.
  const std::vector<std::string>& notices() const { return notices_; }

 private:
  // Through the page cache an operation has up to three steps; with direct I/O only the first.
  enum class Step : uint8_t { kTransfer, kFlush, kDrop };
  struct Operation {
    machine::IoToken token = 0;
    std::byte* data = nullptr;
    uint64_t offset = 0;
    uint32_t bytes = 0;
    uint32_t done = 0;
    uint16_t retries = 0;
    bool is_write = false;
    Step step = Step::kTransfer;
  };

  SwapFile(UniqueFd file, uint64_t bytes, bool direct);
  void start_ring(SwapFileChoices choices);
  void enqueue(const Operation& operation);
  void prepare(uint32_t index);
  // Judges one result of an operation; true if the operation is over with `status`.
  bool advance(Operation& operation, int result, machine::IoStatus& status) const;
  int perform(const Operation& operation) const;
  void perform_all();

  UniqueFd file_;
  uint32_t slots_;
  bool direct_;
  bool has_ring_ = false;
  io_uring ring_{};
  UniqueFd wake_;  // without a ring: an eventfd, raised when `finished_` is not empty
  std::array<Operation, kDepth> operations_;
  std::vector<uint32_t> free_;
  uint32_t busy_ = 0;
  std::deque<Operation> backlog_;
  std::deque<machine::IoDone> finished_;
  std::vector<std::string> notices_;
};

}  // namespace ballast::linux_machine
