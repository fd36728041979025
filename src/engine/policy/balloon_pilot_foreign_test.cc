// A balloon that somebody else moves, too: virsh setmem, or a person at another monitor.
#include <gtest/gtest.h>

#include "engine/policy/balloon_pilot_test_guest.h"

namespace ballast::engine {
namespace {

using Condition = BalloonCondition;

// The guest goes where somebody else wants, whatever we ask.
void others_ask(Flight& flight, uint64_t bytes) {
  flight.guest.inflate_rate = flight.guest.deflate_rate = 0;
  flight.guest.balloon = bytes;
  flight.guest.show();
}

// And follows us again.
void obeys(Flight& flight) {
  flight.guest.inflate_rate = 200 * kMb;
  flight.guest.deflate_rate = kGb;
}

TEST(BalloonPilotForeign, StandsUntilItIsGivenBack) {
  Flight flight;
  flight.grow = false;
  EXPECT_EQ(flight.ticks(5).condition, Condition::kIdle);
  for (uint64_t size = 20 * kMb; size <= 300 * kMb; size += 40 * kMb) {  // on its way
    others_ask(flight, size);
    EXPECT_EQ(flight.tick().condition, Condition::kForeign);
  }
  const int requests = flight.requests;
  EXPECT_EQ(flight.ticks(600).condition, Condition::kForeign);
  EXPECT_EQ(flight.plan.deliverable_bytes, 0u);
  EXPECT_EQ(flight.requests, requests);
  others_ask(flight, 100 * kMb);  // less, but not nothing
  EXPECT_EQ(flight.ticks(10).condition, Condition::kForeign);
  others_ask(flight, 0);
  EXPECT_EQ(flight.tick().condition, Condition::kIdle);
  EXPECT_EQ(flight.plan.request_bytes, 0u);
}

TEST(BalloonPilotForeign, IsLeftAloneEvenWhenTheHostIsShort) {
  Flight flight;
  flight.grow = false;
  flight.ticks(5);
  others_ask(flight, 200 * kMb);
  flight.tick();
  flight.grow = true;
  flight.wanted = 500 * kMb;
  EXPECT_EQ(flight.ticks(30).condition, Condition::kForeign);
  EXPECT_EQ(flight.plan.request_bytes, 0u);
  obeys(flight);
  others_ask(flight, 0);
  obeys(flight);
  EXPECT_TRUE(flight.until(Condition::kIdle, 60));
  EXPECT_EQ(flight.guest.balloon, 500 * kMb);
}

TEST(BalloonPilotForeign, OursIsWhatItGoesBackTo) {
  Flight flight;
  flight.wanted = 100 * kMb;
  ASSERT_TRUE(flight.until(Condition::kIdle, 30));
  others_ask(flight, 400 * kMb);
  EXPECT_EQ(flight.ticks(10).condition, Condition::kForeign);
  others_ask(flight, 100 * kMb);
  EXPECT_EQ(flight.tick().condition, Condition::kIdle);
  EXPECT_EQ(flight.plan.request_bytes, 100 * kMb);
}

// Our own request was lowered, and the guest has not heard of it yet.
TEST(BalloonPilotForeign, AGuestThatLagsBehindIsNobodyElses) {
  Flight flight;
  flight.wanted = 400 * kMb;
  for (int i = 0; i < 100 && flight.guest.balloon < 200 * kMb; ++i) flight.tick(250 * kMillisecond);
  const uint64_t asked = flight.plan.request_bytes;
  flight.wanted = 50 * kMb;
  others_ask(flight, asked);
  flight.tick(250 * kMillisecond);
  EXPECT_NE(flight.plan.condition, Condition::kForeign);
  EXPECT_NE(flight.ticks(40).condition, Condition::kForeign);  // it does not shrink at all
}

TEST(BalloonPilotForeign, ANewDaemonFindsItsPredecessorsBalloon) {
  Guest guest;
  guest.balloon = 100 * kMb;
  Flight flight(guest);
  flight.grow = false;
  flight.wanted = 100 * kMb;
  flight.tick(250 * kMillisecond);
  others_ask(flight, 140 * kMb);  // what the predecessor asked for arrives
  for (int i = 0; i < 8; ++i) {
    EXPECT_NE(flight.tick(250 * kMillisecond).condition, Condition::kForeign);
  }
}

TEST(BalloonPilotForeign, AGuestThatBootsIsSqueezedAtOnce) {
  Flight flight;
  flight.grow = false;
  flight.tick();
  others_ask(flight, 300 * kMb);  // currentMemory below memory: asked for before the driver came
  EXPECT_EQ(flight.tick().condition, Condition::kForeign);
  ++flight.guest.view.resets;
  others_ask(flight, 0);
  EXPECT_EQ(flight.tick().condition, Condition::kIdle);
}

}  // namespace
}  // namespace ballast::engine
