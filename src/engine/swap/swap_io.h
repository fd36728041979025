// SwapIo: pages on their way to one VM's swap file and back.
//
// Out: pages are copied into clusters of 16 that are written together into consecutive slots when
// there are some. Until the write is confirmed the page's state does not change: the copy in the
// RAM file or in the compression cache stays the true one, the in-flight mark only keeps the page
// from being chosen twice. A page that was touched meanwhile simply keeps its frame, and its slot
// is given back. In: a read takes the faulting page and, when the VM walks, its followers that lie
// in following slots. Frames are charged before the read starts. Failures: a write that fails
// leaves its pages where they are and closes the way out for a while (1 s, doubling to 64 s); a
// page that cannot be read or whose checksum is wrong, tried three times, is Lost and freezes the
// VM. Worker only; no call waits for the disk.
#pragma once

#include <array>
#include <vector>

#include "engine/vm.h"

namespace ballast::engine {

class SwapIo {
 public:
  enum class ReadStart { kStarted, kAlreadyLoading, kNoMemory, kBusy };

  explicit SwapIo(Vm& vm);

  // Whether add() would take a page now.
  bool can_add();
  // Copies the page's bytes; the page must be Sealed or Compressed and not in flight. False when
  // can_add() is, or when no slot is free.
  bool add(PageIndex page, PageBytes bytes);
  // Starts writing what was added, full cluster or not.
  void flush();
  // Pages whose write is not confirmed yet; they will free memory soon.
  uint32_t pages_going_out() const { return pages_going_out_; }

  // Starts reading the Swapped page and up to window − 1 followers, for a fault on it.
  ReadStart start_read(PageIndex page, bool write, uint32_t window);
  // The same for nobody in particular: what cannot be read stays Swapped until it is missed.
  ReadStart start_background_read(PageIndex page, uint32_t window);
  uint32_t failed_background_reads() const { return failed_background_reads_; }

  // Handles completions. True if there were any.
  bool poll();
  bool reading() const { return reads_ > 0; }
  bool busy() const { return reads_ + writes_ > 0; }
  // For audits: slots that writes and orphaned reads hold, frames that reads have charged.
  uint64_t slots_in_flight() const;
  uint64_t frames_reserved() const;
  // Tries Lost pages again: they become Swapped and their sleepers fault again. Returns how many.
  uint32_t retry_lost();

 private:
  static constexpr uint32_t kClusterPages = 16;  // 64 KiB: one seek, one flash page program
  static constexpr uint32_t kBuffers = 6;
  static_assert(kBuffers <= std::tuple_size_v<decltype(Vm::reading)>);
  static constexpr uint32_t kWriteBuffersMax = 4;  // so that a fault always finds a buffer soon
  static constexpr uint32_t kReadTries = 3;

  enum class Use : uint8_t { kFree, kFilling, kWriting, kReading };
  struct Buffer {
    Use use = Use::kFree;
    bool write_fault = false;  // reading: the fault wants to write
    bool background = false;   // reading: no fault asked for it
    bool failed = false;       // some operation of the cluster failed
    uint8_t tries = 0;         // reading: how often before
    uint32_t count = 0;        // pages
    uint32_t outstanding = 0;  // operations
    machine::IoStatus status = machine::IoStatus::kOk;
    std::array<PageIndex, kClusterPages> pages{};
    std::array<SwapSlot, kClusterPages> slots{};
    std::array<uint64_t, kClusterPages> checksums{};
  };

  std::span<std::byte, kPageBytes> bytes_of(uint32_t buffer, uint32_t page) {
    return memory_.page(buffer * kClusterPages + page);
  }
  uint32_t take_buffer(Use use);       // kBuffers when none is free
  bool loading(PageIndex page) const;  // a read of it is in flight
  struct Wish {
    PageIndex page;
    uint32_t window = 1;
    bool write = false;
    bool background = false;
    uint8_t tries = 0;
  };
  ReadStart read_into_buffer(const Wish& wish);
  void written(uint32_t buffer);
  void write_failed(Buffer& cluster);
  void store_written(const Buffer& cluster);
  void read_done(uint32_t buffer);
  void install_read(uint32_t buffer, uint32_t from, uint32_t count);
  void unreadable(const Buffer& read, bool io_failed);
  bool readable_now(const Buffer& read, uint32_t index,
                    std::span<const std::byte, kPageBytes> bytes);

  Vm& vm_;
  PageBuffer memory_{kBuffers * kClusterPages};
  std::array<Buffer, kBuffers> buffers_;
  uint32_t filling_ = kBuffers;  // index of the cluster being filled, kBuffers if none
  uint32_t reads_ = 0;
  uint32_t writes_ = 0;
  uint32_t pages_going_out_ = 0;
  uint32_t failed_background_reads_ = 0;
  Nanoseconds closed_until_ = 0;  // after a failed write
  Nanoseconds backoff_ = 0;
};

}  // namespace ballast::engine
