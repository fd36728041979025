#include "machine/linux/remap_queue.h"

#include <gtest/gtest.h>

namespace ballast::linux_machine {
namespace {

using Kind = RemapQueue::Kind;

class RemapQueueTest : public testing::Test {
 protected:
  bool share(uint32_t page) {
    const AgentShareRange range{page * 4096u, 4096, 0};
    return queue_.add_share({PageIndex(page), 1}, std::span(&range, 1));
  }
  bool home(uint32_t page, size_t ranges = 1) {
    const std::vector<AgentRange> all(ranges, {page * 4096u, 4096});
    return queue_.add_home({PageIndex(page), static_cast<uint32_t>(ranges)}, all);
  }
  // The oldest end, as "S3+" (share of page 3, done) or "H3-"; empty if there is none.
  std::string pop() {
    RemapQueue::Request request;
    if (!queue_.pop(request)) return "";
    return (request.kind == Kind::kShare ? "S" : "H") + std::to_string(request.run.first.raw()) +
           (request.done ? "+" : "-");
  }
  void answer(const std::vector<uint32_t>& errors) { queue_.take_results(errors); }

  bool takes_ = true;
  std::string sent_;  // "S2 H1": messages and their ranges
  RemapQueue queue_{{[this](auto ranges) { return send('S', ranges.size()); },
                     [this](auto ranges) { return send('H', ranges.size()); }}};

 private:
  bool send(char kind, size_t ranges) {
    if (takes_) sent_ += kind + std::to_string(ranges) + " ";
    return takes_;
  }
};

TEST_F(RemapQueueTest, RequestsOfOneKindTravelTogether) {
  EXPECT_TRUE(share(1) && share(2) && home(3, 2) && home(4) && share(5));
  EXPECT_EQ(sent_, "S2 H3 ");
  EXPECT_EQ(pop(), "");
  EXPECT_TRUE(queue_.flush());
  EXPECT_TRUE(queue_.flush());
  EXPECT_EQ(sent_, "S2 H3 S1 ");
  answer({0, ECANCELED});
  EXPECT_EQ(pop(), "S1+");
  EXPECT_EQ(pop(), "S2-");
  answer({0, ENOSPC, 0, 0});
  EXPECT_EQ(pop(), "H3-");
  EXPECT_EQ(pop(), "H4+");
  EXPECT_EQ(pop(), "S5+");
  EXPECT_EQ(pop(), "");
}

TEST_F(RemapQueueTest, RefusedOnesEndInTheirTurn) {
  EXPECT_TRUE(share(1));
  EXPECT_TRUE(queue_.add_share({PageIndex(2), 4}, {}));
  EXPECT_TRUE(share(3));
  queue_.flush();
  EXPECT_EQ(pop(), "");
  answer({0, 0});
  EXPECT_EQ(pop(), "S1+");
  EXPECT_EQ(pop(), "S2-");
  EXPECT_EQ(pop(), "S3+");
}

TEST_F(RemapQueueTest, NoRoom) {
  for (uint32_t i = 0; i < RemapQueue::kRequestsMax; ++i) EXPECT_TRUE(share(i));
  EXPECT_FALSE(share(99));
  EXPECT_FALSE(home(99));
  queue_.flush();
  EXPECT_FALSE(share(99)) << "not before an end was fetched";
  answer({0});
  EXPECT_EQ(pop(), "S0+");
  EXPECT_TRUE(share(99));
}

TEST_F(RemapQueueTest, FullMessagesGoOut) {
  for (uint32_t i = 0; i < 5; ++i) EXPECT_TRUE(home(i, 16));
  EXPECT_EQ(sent_, "H64 ");
}

TEST_F(RemapQueueTest, NothingIsForgottenWhileTheAgentTakesNothing) {
  EXPECT_TRUE(share(1));
  takes_ = false;
  EXPECT_FALSE(home(2)) << "the other kind would have to wait behind it";
  EXPECT_FALSE(queue_.flush());
  EXPECT_TRUE(share(3));
  takes_ = true;
  EXPECT_TRUE(home(2));
  EXPECT_EQ(sent_, "S2 ");
}

TEST_F(RemapQueueTest, LostOnce) {
  queue_.lose();
  EXPECT_FALSE(queue_.take_lost()) << "there was nothing";
  EXPECT_TRUE(share(1));
  queue_.flush();
  EXPECT_TRUE(home(2));
  queue_.lose();
  EXPECT_FALSE(share(3)) << "before the loss was heard of";
  EXPECT_TRUE(queue_.take_lost());
  EXPECT_FALSE(queue_.take_lost());
  EXPECT_EQ(pop(), "");
  EXPECT_TRUE(queue_.flush());
  EXPECT_EQ(sent_, "S1 ");
}

}  // namespace
}  // namespace ballast::linux_machine
