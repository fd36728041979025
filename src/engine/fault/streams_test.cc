#include "engine/fault/streams.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace ballast::engine {
namespace {

uint32_t serve(Streams& streams, uint32_t page, uint32_t pages = 16) {
  const uint32_t steps = streams.steps_at(PageIndex(page));
  streams.served_until(PageIndex(page + pages));
  return steps;
}

TEST(Streams, AWalkGrowsStepByStep) {
  Streams streams;
  EXPECT_EQ(serve(streams, 1000), 0u);
  EXPECT_EQ(serve(streams, 1016), 1u);
  EXPECT_EQ(serve(streams, 1032), 2u);
  EXPECT_EQ(serve(streams, 1048), 3u);
  EXPECT_EQ(serve(streams, 1064), 3u);
}

TEST(Streams, AWalkMaySkipAFewPresentPages) {
  Streams streams;
  serve(streams, 1000);
  EXPECT_EQ(serve(streams, 1016 + 15), 1u);
  EXPECT_EQ(serve(streams, 1016 + 15 + 16 + 16), 0u);
}

TEST(Streams, TheVeryFirstFaultIsNoWalk) {
  Streams streams;
  EXPECT_EQ(serve(streams, 0), 0u);
}

TEST(Streams, RandomAccessesStayRandom) {
  Streams streams;
  Random random(1);
  uint32_t walks = 0;
  for (int i = 0; i < 10000; ++i) walks += serve(streams, random.below(1 << 20)) > 0 ? 1 : 0;
  EXPECT_LT(walks, 50u);
}

TEST(Streams, FourWalksAtOnceAllGrow) {
  Streams streams;
  for (uint32_t round = 0; round < 8; ++round) {
    for (uint32_t walk = 0; walk < 4; ++walk) {
      const uint32_t steps = serve(streams, walk * 100000 + round * 16);
      EXPECT_EQ(steps, std::min(round, 3u)) << "walk " << walk << " round " << round;
    }
  }
}

TEST(Streams, AStrayAccessDoesNotBreakAWalk) {
  Streams streams;
  for (uint32_t round = 0; round < 8; ++round) {
    EXPECT_EQ(serve(streams, 5000 + round * 16), std::min(round, 3u));
    serve(streams, 900000 + round * 1000, 1);
  }
}

}  // namespace
}  // namespace ballast::engine
