#include "agent/agent_test_vm.h"

#include <poll.h>
#include <sys/mman.h>

#include <array>
#include <numeric>

namespace ballast::agent_test {

using linux_machine::AgentLink;
using linux_machine::Attachment;
using linux_machine::LinuxSharePool;
using linux_machine::UffdMemory;
using linux_machine::UniqueFd;
using linux_machine::VmProcess;

namespace {

constexpr int kPatienceMs = 10'000;

uint64_t bytes_of(const std::vector<uint32_t>& memory_pages) {
  return pages_to_bytes(std::accumulate(memory_pages.begin(), memory_pages.end(), uint64_t{0}));
}

}  // namespace

TestVm::TestVm(const std::vector<uint32_t>& memory_pages, uint32_t frames)
    : toucher_(daemon_.environment("vm", bytes_of(memory_pages))) {
  if (frames > 0) pool_ = LinuxSharePool::create("test", frames).value();
  Attachment attachment;
  for (size_t i = 0; i < memory_pages.size(); ++i) {
    toucher_.send("map " + std::to_string(i) + " " + std::to_string(memory_pages[i]));
    if (i == 0) connect();
    attachment = take_hand_off();
    accept(i == 0);
    require(toucher_.reply().starts_with("ok "), "the memory is not mapped");
  }
  base_ = attachment.hand_off.regions[0].address;
  linux_machine::RemapQueue::Senders remap;
  if (pool_) {
    remap = {[this](auto ranges) { return link_->send_share(ranges); },
             [this](auto ranges) { return link_->send_home(ranges); }};
  }
  memory_ = UffdMemory::create(attachment.memory_parts(
                                   toucher_.pid(),
                                   [this](auto ranges) { return link_->send_sample(ranges); },
                                   std::move(remap)))
                .value();
}

void TestVm::connect() {
  daemon_.accept_agent();
  link_ = std::make_unique<AgentLink>(UniqueFd(daemon_.release_agent()));
}

AgentLink::Received TestVm::receive(int timeout_ms) {
  pollfd watch{link_->fd(), POLLIN, 0};
  (void)::poll(&watch, 1, timeout_ms);
  auto received = link_->receive();
  require(received.has_value(), received ? "" : received.error().message);
  require(!received->closed, "the agent closed");
  return std::move(received).value();
}

Attachment TestVm::take_hand_off() {
  AgentLink::Received received = receive(kPatienceMs);
  require(received.hand_off_arrived, "no hand-off came");
  auto attachment = linux_machine::attach(std::move(received.hand_off),
                                          VmProcess::of_pid(toucher_.pid()).value());
  require(attachment.has_value(), attachment ? "" : attachment.error().message);
  return std::move(attachment).value();
}

void TestVm::accept(bool with_kept) {
  if (!with_kept || !pool_) {
    require(link_->send_accept({}).has_value(), "accept");
    return;
  }
  const UniqueFd stand_in(::memfd_create("kept", MFD_CLOEXEC));
  const UniqueFd pool = pool_->read_only_fd().value();
  const std::array<int, 4> kept{stand_in.get(), stand_in.get(), stand_in.get(), pool.get()};
  require(link_->send_accept(kept).has_value(), "accept");
}

void TestVm::take_messages(int timeout_ms) {
  const AgentLink::Received received = receive(timeout_ms);
  if (received.discards) memory_->begin_discards();
  memory_->take_remapped(received.remapped);
}

void TestVm::reconnect() {
  link_.reset();
  connect();
  require(take_hand_off().hand_off.has_pool == (pool_ != nullptr), "the pool did not come back");
  accept(false);
  memory_->lose_remaps();
}

}  // namespace ballast::agent_test
