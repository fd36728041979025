// TestGuest: a VM within the test's own process: memfds mapped shared and registered with a
// userfaultfd, as the agent does it in QEMU. The test's threads are the vCPUs. For tests and
// benchmarks only.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "machine/linux/uffd_memory.h"

namespace ballast::linux_machine {

class TestGuest {
 public:
  // One region of so many pages each, each in a memfd of its own. Null, with the reason, where the
  // host forbids it.
  static std::unique_ptr<TestGuest> make(const std::vector<uint32_t>& region_pages,
                                         std::string& why_not);
  ~TestGuest();
  TestGuest(const TestGuest&) = delete;
  TestGuest& operator=(const TestGuest&) = delete;

  // Over duplicates of the descriptors; samples by madvise in this process. `remap`: who plays the
  // agent for sharing.
  std::unique_ptr<UffdMemory> open_memory(RemapQueue::Senders remap = {}) const;

  struct Piece {
    UniqueFd file;
    std::byte* address = nullptr;
    uint32_t pages = 0;
  };
  std::byte* page(uint32_t index) const;
  uint32_t page_count() const;
  const std::vector<Piece>& pieces() const { return pieces_; }
  int uffd() const { return uffd_.get(); }
  int discards() const { return discards_.get(); }
  // A hand-off text for these regions; complete, nothing kept.
  std::string hand_off_text() const;
  // Descriptors in hand-off order, borrowed.
  std::vector<int> hand_off_descriptors() const;

 private:
  TestGuest() = default;
  UniqueFd uffd_;
  UniqueFd discards_;
  std::vector<Piece> pieces_;
};

// One that can do what a VM needs; invalid, with the reason, where the host forbids it.
UniqueFd open_userfaultfd(std::string& why_not);
UniqueFd duplicate(int fd);

}  // namespace ballast::linux_machine
