// TestVm: one VM of a test, both halves: the real agent in a child process (Toucher), and what the
// daemon has of it: the link, the memory, the share pool. The test is the worker: it alone calls
// the memory.
#pragma once

#include <memory>
#include <vector>

#include "agent/agent_test_parts.h"
#include "machine/linux/attach.h"
#include "machine/linux/share_pool.h"

namespace ballast::agent_test {

class TestVm {
 public:
  // One memory of so many pages each, at least 1 MiB. Without frames the VM shares no pages.
  TestVm(const std::vector<uint32_t>& memory_pages, uint32_t frames);

  Toucher& toucher() { return toucher_; }
  linux_machine::UffdMemory& memory() { return *memory_; }
  linux_machine::LinuxSharePool* pool() { return pool_.get(); }
  uint64_t base() const { return base_; }  // address of the first memory

  // Takes what the agent sent, and waits for something so long.
  void take_messages(int timeout_ms);
  // Closes the link; the agent connects anew and hands everything over again.
  void reconnect();

 private:
  void connect();
  linux_machine::Attachment take_hand_off();
  void accept(bool with_kept);
  linux_machine::AgentLink::Received receive(int timeout_ms);

  FakeDaemon daemon_;
  Toucher toucher_;
  std::unique_ptr<linux_machine::LinuxSharePool> pool_;
  std::unique_ptr<linux_machine::AgentLink> link_;
  std::unique_ptr<linux_machine::UffdMemory> memory_;
  uint64_t base_ = 0;
};

}  // namespace ballast::agent_test
