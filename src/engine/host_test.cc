#include "engine/host.h"

#include "engine/engine_test_vm.h"

namespace ballast::engine {
namespace {

constexpr uint64_t kMb = uint64_t{1} << 20;

VmSpec spec_of(std::string name, uint64_t memory, uint64_t min) {
  VmSpec spec;
  spec.name = std::move(name);
  spec.configured_bytes = memory;
  spec.allocation.min_bytes = min;
  return spec;
}

// A VM on a host's ledger, without a guest.
struct HostedVm {
  HostedVm(Host& host, machine::sim::SimWorld& world, const VmSpec& spec)
      : memory(world, 0, {.page_count = pages(spec)}),
        swap(world, 0, {.slot_count = slots(spec)}),
        store(world, 0, Pager::tables_bytes(pages(spec)), Pager::arena_bytes(pages(spec))),
        control(world) {
    PagerParts parts{memory, swap, store, control, world, host.ledger(), {}, 1};
    pager = std::move(*Pager::create(spec, parts));
  }
  static uint32_t pages(const VmSpec& spec) {
    return static_cast<uint32_t>(spec.configured_bytes / kPageBytes);
  }
  static uint32_t slots(const VmSpec& spec) {
    return static_cast<uint32_t>(swap_bytes(spec) / kPageBytes);
  }
  machine::sim::SimGuestMemory memory;
  machine::sim::SimSwapDevice swap;
  machine::sim::SimVmStore store;
  machine::sim::SimVmControl control;
  std::unique_ptr<Pager> pager;
};

class HostTest : public testing::Test {
 protected:
  Host& host(uint64_t budget) {
    host_ = std::move(*Host::create(budget, kMb, {}, world_, events()));
    return *host_;
  }
  std::string refusal(const VmSpec& spec) {
    const auto admitted = host_->admit(spec);
    return admitted ? "" : admitted.error().message;
  }
  EventSink events() {
    return [this](machine::Severity, const std::string& vm, const std::string& kind,
                  const std::string& message) { told_.push_back(vm + " " + kind + " " + message); };
  }
  machine::sim::SimWorld world_{1};
  std::vector<std::string> told_;
  std::unique_ptr<Host> host_;
};

TEST_F(HostTest, ATinyBudgetIsRefused) {
  const auto made = Host::create(8 * kMb, kMb, {}, world_, events());
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().message, "a budget of 8 MB is too small: at least 17 MB are needed");
}

TEST_F(HostTest, WhatNoVmCanBeIsRefused) {
  host(512 * kMb);
  EXPECT_EQ(refusal(spec_of("a", 0, 0)), "a: memory of 0 bytes is not a positive multiple of 4096");
  EXPECT_EQ(refusal(spec_of("a", 4097, 0)),
            "a: memory of 4097 bytes is not a positive multiple of 4096");
  EXPECT_EQ(refusal(spec_of("a", 64 * kMb, 65 * kMb)),
            "a: a min of 65 MB exceeds its memory of 64 MB");
  EXPECT_EQ(refusal(spec_of("a", uint64_t{16} << 40, 0)),
            "a: memory of 16 TB is too much: below 16 TB is possible");
}

TEST_F(HostTest, TheRefusalShowsTheArithmetic) {
  Host& host = this->host(512 * kMb);
  EXPECT_EQ(refusal(spec_of("web1", 256 * kMb, 0)), "");
  EXPECT_EQ(refusal(spec_of("web1", 1024 * kMb, 512 * kMb)).substr(0, 44),
            "web1 needs 515 MB (min 512 MB + overhead 2.9");
  HostedVm first(host, world_, spec_of("web1", 256 * kMb, 200 * kMb));
  host.add({first.pager.get()}, first.pager->spec().allocation);
  EXPECT_EQ(refusal(spec_of("web1", 256 * kMb, 0)),
            "a VM named web1 runs already; names must differ");
  const std::string text = refusal(spec_of("web2", 1024 * kMb, 300 * kMb));
  EXPECT_NE(text.find("web2 needs 30"), std::string::npos) << text;
  EXPECT_NE(text.find("(min 300 MB + overhead "), std::string::npos) << text;
  EXPECT_NE(
      text.find("of the budget of 512 MB the mins of 1 VMs take 202 MB, reservations 0 B, and"),
      std::string::npos)
      << text;
  EXPECT_NE(text.find("are kept free"), std::string::npos) << text;
  EXPECT_NE(text.find("unreserved. Give it a smaller --min, stop a VM, or raise ballastd's "
                      "--memory"),
            std::string::npos)
      << text;
  host.remove(*first.pager);
  EXPECT_EQ(refusal(spec_of("web2", 1024 * kMb, 300 * kMb)), "");
}

// Whoever was admitted can have his min and his overhead, whatever the others do.
TEST_F(HostTest, AdmissionAddsUpMinsAndOverheads) {
  Host& host = this->host(64 * kMb);
  std::vector<std::unique_ptr<HostedVm>> vms;
  uint64_t promised = kMb;
  for (int i = 0; i < 100; ++i) {
    const VmSpec spec = spec_of("vm" + std::to_string(i), 16 * kMb, kMb);
    if (!host.admit(spec)) break;
    vms.push_back(std::make_unique<HostedVm>(host, world_, spec));
    host.add({vms.back()->pager.get()}, vms.back()->pager->spec().allocation);
    promised += spec.allocation.min_bytes + vms.back()->pager->report().overhead_bytes;
  }
  EXPECT_GT(vms.size(), 20u);
  EXPECT_LE(promised + min_free_bytes(64 * kMb, 0), 64 * kMb);
  EXPECT_GT(promised + min_free_bytes(64 * kMb, 0) + 3 * kMb, 64 * kMb);
  for (auto& vm : vms) host.remove(*vm->pager);
}

TEST_F(HostTest, ReportAddsUp) {
  Host& host = this->host(512 * kMb);
  HostedVm one(host, world_, spec_of("a", 256 * kMb, 64 * kMb));
  HostedVm two(host, world_, spec_of("b", 512 * kMb, 0));
  host.add({one.pager.get()}, one.pager->spec().allocation);
  host.add({two.pager.get()}, two.pager->spec().allocation);
  const HostReport report = host.report();
  EXPECT_EQ(report.promised_bytes, 768 * kMb);
  EXPECT_EQ(report.min_bytes, 64 * kMb);
  EXPECT_EQ(report.state, "high");
  EXPECT_EQ(report.budget_bytes, 512 * kMb);
  EXPECT_EQ(report.daemon_bytes, kMb);
  uint64_t consumed = report.daemon_bytes;
  for (const VmReport& vm : report.vms) consumed += vm.consumed_bytes;
  EXPECT_EQ(report.consumed_bytes, consumed);
  EXPECT_EQ(report.free_bytes, report.budget_bytes - report.consumed_bytes);
  host.remove(*one.pager);
  host.remove(*two.pager);
}

// With many VMs the reserve can be larger than minFree; a refused charge must still mean that
// reclaim is wanted, and everybody at his target that it is not.
TEST_F(HostTest, ReclaimStartsBeforeGuestsAreRefused) {
  Host& host = this->host(32 * kMb);
  std::vector<std::unique_ptr<HostedVm>> vms;
  for (int i = 0; i < 20; ++i) {
    vms.push_back(
        std::make_unique<HostedVm>(host, world_, spec_of("vm" + std::to_string(i), 4 * kMb, 0)));
    host.add({vms.back()->pager.get()}, vms.back()->pager->spec().allocation);
  }
  Ledger& ledger = host.ledger();
  const uint64_t before = ledger.consumed();
  while (ledger.try_charge(kPageBytes)) {
  }
  EXPECT_EQ(ledger.state(), HostState::kLow);
  EXPECT_GT(ledger.free(), 0u);
  ledger.uncharge(ledger.consumed() - before);
  uint64_t targets = kMb;
  for (auto& vm : vms) targets += vm->pager->report().target_bytes;
  EXPECT_LE(targets + ledger.stop_level(), ledger.budget());
  for (auto& vm : vms) host.remove(*vm->pager);
}

TEST_F(HostTest, TargetsCoverMinAndOverhead) {
  Host& host = this->host(512 * kMb);
  HostedVm one(host, world_, spec_of("a", 256 * kMb, 64 * kMb));
  host.add({one.pager.get()}, one.pager->spec().allocation);
  const VmReport report = one.pager->report();
  EXPECT_GE(report.target_bytes, report.spec.allocation.min_bytes + report.overhead_bytes);
  host.remove(*one.pager);
}

}  // namespace
}  // namespace ballast::engine
