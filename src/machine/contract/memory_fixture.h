// MemoryFixture: a VM's memory under test, for the suites that need one.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <vector>

#include "machine/contract/under_test.h"

namespace ballast::machine::contract {

// Pages of which each word is the value.
inline std::vector<std::byte> pages_of(std::initializer_list<uint64_t> values) {
  std::vector<std::byte> bytes(values.size() * kPageBytes);
  size_t at = 0;
  for (const uint64_t value : values) {
    for (size_t word = 0; word < kPageBytes; word += 8) std::memcpy(&bytes[at + word], &value, 8);
    at += kPageBytes;
  }
  return bytes;
}

// What tests of one VM's memory do again and again.
class MemoryFixture : public testing::Test {
 protected:
  GuestMemory& memory() { return machine_->memory(); }
  std::vector<PageRun> present() {
    std::vector<PageRun> runs;
    EXPECT_EQ(memory().find_present({PageIndex(0), kPages}, runs), MemoryResult::kOk);
    return runs;
  }
  uint64_t peek(PageIndex page) {
    std::vector<std::byte> bytes(kPageBytes);
    EXPECT_EQ(memory().read({page, 1}, bytes), MemoryResult::kOk);
    uint64_t first = 0;
    std::memcpy(&first, bytes.data(), 8);
    return first;
  }
  // A kRetry is allowed at any time.
  void must_install(PageRun run, std::span<const std::byte> contents,
                    Sealing sealing = Sealing::kWritable) {
    for (uint32_t done = 0; done < run.count;) {
      const auto result = memory().install({run.first + done, run.count - done},
                                           contents.subspan(size_t{done} * kPageBytes), sealing);
      done += result.installed;
      ASSERT_TRUE(result.stop == InstallStop::kDone || result.stop == InstallStop::kRetry);
    }
  }
  void must_install_zero(PageRun run) {
    for (uint32_t done = 0; done < run.count;) {
      const auto result = memory().install_zero({run.first + done, run.count - done});
      done += result.installed;
      ASSERT_TRUE(result.stop == InstallStop::kDone || result.stop == InstallStop::kRetry);
    }
  }
  void expect_fault(PageIndex page, FaultKind kind) {
    const auto fault = machine_->next_fault();
    ASSERT_TRUE(fault.has_value()) << "no event for page " << page.raw();
    EXPECT_EQ(fault->page, page);
    EXPECT_EQ(fault->kind, kind);
  }
  void expect_read(int vcpu, PageIndex page, uint64_t value) {
    machine_->begin_read(vcpu, page);
    ASSERT_TRUE(machine_->ends(vcpu)) << "page " << page.raw();
    EXPECT_EQ(machine_->value_read(vcpu), value);
  }

  // Waits until the sample began: only the bits of `touched` read as touched, which cannot be
  // sampled.
  void sample(PageRun run, uint64_t touched = 0) {
    ASSERT_LE(run.count, 64u);
    const uint64_t all = ~uint64_t{0} >> (64 - run.count);
    EXPECT_TRUE(memory().start_sample({&run, 1}) || touched != 0);
    uint64_t bits = ~touched;
    for (int i = 0; i < 200 && (bits & all) != touched; ++i) {
      machine_->let_time_pass();
      ASSERT_EQ(memory().touched(run, {&bits, 1}), MemoryResult::kOk);
    }
    ASSERT_EQ(bits & all, touched);
  }

  std::unique_ptr<MemoryUnderTest> machine_;
};

}  // namespace ballast::machine::contract
