// The promises of machine/swap_device.h.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <map>

#include "machine/contract/under_test.h"

namespace ballast::machine::contract {
namespace {

struct FreeDeleter {
  void operator()(std::byte* bytes) const { std::free(bytes); }
};
struct Buffer {
  explicit Buffer(size_t pages, std::byte fill = std::byte{0})
      : bytes(static_cast<std::byte*>(std::aligned_alloc(kPageBytes, pages * kPageBytes))),
        span(bytes.get(), pages * kPageBytes) {
    std::memset(bytes.get(), static_cast<int>(fill), span.size());
  }
  std::unique_ptr<std::byte, FreeDeleter> bytes;
  std::span<std::byte> span;
};

class SwapDeviceContract : public testing::Test {
 protected:
  void SetUp() override {
    std::string why_not;
    machine_ = make_swap(why_not);
    if (!machine_) GTEST_SKIP() << why_not;
  }
  SwapDevice& device() { return machine_->device(); }
  std::map<IoToken, IoStatus> wait_for(size_t count) {
    std::map<IoToken, IoStatus> all;
    for (int i = 0; i < 5000 && all.size() < count; ++i) {
      IoDone done[4];  // smaller than what may be ready
      const size_t taken = device().poll(done);
      for (size_t k = 0; k < taken; ++k)
        EXPECT_TRUE(all.emplace(done[k].token, done[k].status).second);
      if (taken == 0) machine_->let_time_pass();
    }
    EXPECT_EQ(all.size(), count);
    return all;
  }

  std::unique_ptr<SwapUnderTest> machine_;
};

TEST_F(SwapDeviceContract, ReadsBackWhatWasWritten) {
  EXPECT_EQ(device().slot_count(), kSlots);
  Buffer out(3, std::byte{7});
  out.span[2 * kPageBytes] = std::byte{9};
  device().write(SwapSlot(10), out.span, 1);
  device().submit();
  EXPECT_EQ(wait_for(1).at(1), IoStatus::kOk);
  Buffer in(2);
  device().read(SwapSlot(11), in.span, 2);
  device().submit();
  EXPECT_EQ(wait_for(1).at(2), IoStatus::kOk);
  EXPECT_EQ(std::memcmp(in.bytes.get(), out.bytes.get() + kPageBytes, 2 * kPageBytes), 0);
}

TEST_F(SwapDeviceContract, ManyInFlightEachCompletesOnce) {
  std::vector<Buffer> buffers;
  for (uint32_t i = 0; i < 32; ++i) {
    buffers.emplace_back(2, static_cast<std::byte>(i));
    device().write(SwapSlot(i * 4), buffers.back().span, 100 + i);
  }
  device().submit();
  for (const auto& [token, status] : wait_for(32)) EXPECT_EQ(status, IoStatus::kOk) << token;
  std::vector<Buffer> reads;
  for (uint32_t i = 0; i < 32; ++i) {
    reads.emplace_back(1);
    device().read(SwapSlot(i * 4 + 1), reads.back().span, 200 + i);
    if (i % 5 == 0) device().submit();
  }
  device().submit();
  for (const auto& [token, status] : wait_for(32)) EXPECT_EQ(status, IoStatus::kOk) << token;
  for (uint32_t i = 0; i < 32; ++i) EXPECT_EQ(reads[i].span[100], static_cast<std::byte>(i));
}

TEST_F(SwapDeviceContract, LastSlotIsUsable) {
  Buffer out(1, std::byte{3});
  device().write(SwapSlot(kSlots - 1), out.span, 5);
  device().submit();
  EXPECT_EQ(wait_for(1).at(5), IoStatus::kOk);
  Buffer again(1, std::byte{4});
  device().write(SwapSlot(kSlots - 1), again.span, 6);
  device().submit();
  EXPECT_EQ(wait_for(1).at(6), IoStatus::kOk);
  Buffer in(1);
  device().read(SwapSlot(kSlots - 1), in.span, 7);
  device().submit();
  EXPECT_EQ(wait_for(1).at(7), IoStatus::kOk);
  EXPECT_EQ(in.span[4095], std::byte{4});
}

TEST_F(SwapDeviceContract, PollWithoutWorkReturnsNothing) {
  IoDone done[1];
  EXPECT_EQ(device().poll(done), 0u);
  device().submit();
  EXPECT_EQ(device().poll(done), 0u);
}

}  // namespace
}  // namespace ballast::machine::contract
