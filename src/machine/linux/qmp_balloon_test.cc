// The balloon of a VM whose monitor is the test: what it asks for, when, and what it makes of the
// answers.
#include "machine/linux/qmp_balloon.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "machine/linux/test_monitor.h"

namespace ballast::linux_machine {
namespace {

using machine::BalloonView;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

using Link = BalloonView::Link;

constexpr uint64_t kMib = 1 << 20;
constexpr uint64_t kRam = 256 * kMib;
constexpr const char* kDevice = "/machine/peripheral/ballast-balloon";

json child(const std::string& name, const std::string& type) {
  return {{"name", name}, {"type", type}};
}

class QmpBalloonTest : public testing::Test {
 protected:
  void step(Nanoseconds span = kMillisecond) {
    now_ += span;
    turn(balloon_, now_);
    if (monitor_.accept()) {
      ++connections_;
      monitor_.greet();
    }
    while (monitor_.has_client()) {
      const auto command = monitor_.command();
      if (!command) break;
      serve(*command);
    }
  }
  // QEMU, as far as a balloon needs one.
  void serve(const json& command) {
    const std::string name = command["execute"];
    const json arguments = command.value("arguments", json::object());
    std::string text = name;
    if (arguments.contains("value")) text += " " + arguments["value"].dump();
    asked_.push_back(text);
    if (silent_) return;
    const auto refusal = refusals_.find(name);
    if (refusal != refusals_.end()) {
      return monitor_.refuse(command, refusal->second, "says the test");
    }
    if (answers_.contains(name)) return monitor_.answer(command, answers_[name]);
    json value = json::object();
    if (name == "qom-list") {
      value = arguments["path"] == "/machine/peripheral" ? peripherals_ : nameless_;
    } else if (name == "query-status") {
      value = {{"status", runs_ ? "running" : "paused"}, {"running", runs_}};
    } else if (name == "query-balloon") {
      value = {{"actual", actual_}};
    } else if (name == "qom-get") {
      EXPECT_EQ(arguments["path"], device_);
      EXPECT_EQ(arguments["property"], "guest-stats");
      value = {{"stats", stats_}, {"last-update", last_update_}};
    } else if (name == "qom-set") {
      EXPECT_EQ(arguments["path"], device_);
      EXPECT_EQ(arguments["property"], "guest-stats-polling-interval");
    }
    monitor_.answer(command, value);
  }
  // Some turns, a millisecond each.
  void settle() {
    for (int i = 0; i < 30; ++i) step();
  }
  // Seconds in which the loop sleeps as long as it may.
  void pass(Nanoseconds span) {
    const Nanoseconds end = now_ + span;
    while (now_ < end) {
      pollfd entry{balloon_.fd(), balloon_.wanted(), 0};
      const Nanoseconds soon = now_ + kMillisecond;
      const bool woken = poll(&entry, 1, 0) > 0;
      const Nanoseconds wake = woken ? soon : std::clamp(balloon_.wake_at(), soon, end);
      step(wake - now_);
    }
  }
  std::vector<std::string> take_asked() { return std::exchange(asked_, {}); }
  size_t count(const std::string& command) {
    return static_cast<size_t>(std::ranges::count(asked_, command));
  }
  void expect_nonsense(const std::string& command) {
    for (const json& nonsense :
         {json(), json(17), json::array({1}), json{{"actual", "much"}}, json{{"actual", -1}},
          json{{"running", "yes"}}, json{{"stats", 1}, {"last-update", 5}}}) {
      answers_[command] = nonsense;
      const int before = connections_;
      step(QmpClient::kRetryMax);
      settle();
      pass(12 * kSecond);
      EXPECT_GT(connections_, before);
      EXPECT_EQ(balloon_.view().link, Link::kUnreachable) << command << nonsense;
      EXPECT_THAT(balloon_.view().problem, HasSubstr(monitor_.path()));
    }
  }

  Nanoseconds now_ = 1000 * kSecond;
  TestMonitor monitor_;
  QmpBalloon balloon_{monitor_.path(), getpid(), kRam};

  bool silent_ = false;
  std::map<std::string, std::string> refusals_;  // command → error class
  std::map<std::string, json> answers_;
  std::string device_ = kDevice;
  json peripherals_ = {child("type", "string"), child("net0", "child<e1000>"),
                       child("ballast-balloon", "child<virtio-balloon-pci>")};
  json nameless_ = {child("type", "string")};
  bool runs_ = true;
  uint64_t actual_ = kRam;
  json stats_ = json::object();
  uint64_t last_update_ = 0;

  int connections_ = 0;
  std::vector<std::string> asked_;
};

TEST_F(QmpBalloonTest, FindsTheDeviceAndItsSize) {
  EXPECT_EQ(balloon_.view().link, Link::kConnecting);
  settle();
  EXPECT_THAT(asked_, ElementsAre("qmp_capabilities", "qom-list", "query-status", "query-balloon"));
  const BalloonView view = balloon_.view();
  EXPECT_EQ(view.link, Link::kReady);
  EXPECT_EQ(view.actual_bytes, kRam);
  EXPECT_TRUE(view.vm_runs);
  EXPECT_FALSE(view.stats);
  EXPECT_EQ(view.problem, "");
}

TEST_F(QmpBalloonTest, FindsADeviceWithoutAName) {
  peripherals_ = json::array();
  nameless_ = {child("device[0]", "child<e1000>"), child("device[1]", "child<virtio-balloon-ccw>")};
  device_ = "/machine/peripheral-anon/device[1]";
  balloon_.set_stats_period(2);  // asks by path
  settle();
  EXPECT_EQ(balloon_.view().link, Link::kReady);
  EXPECT_EQ(count("qom-set 2"), 1u);
}

TEST_F(QmpBalloonTest, NoDeviceUntilOneIsPluggedIn) {
  const json peripherals = std::exchange(peripherals_, json::array());
  balloon_.request(200 * kMib);
  settle();
  EXPECT_EQ(balloon_.view().link, Link::kNone);
  EXPECT_THAT(take_asked(), ElementsAre("qmp_capabilities", "qom-list", "qom-list"));
  pass(QmpBalloon::kSearchPeriod - kSecond);
  EXPECT_THAT(asked_, IsEmpty());
  peripherals_ = peripherals;
  pass(2 * kSecond);
  EXPECT_EQ(balloon_.view().link, Link::kReady);
  EXPECT_EQ(count("balloon 209715200"), 1u);
}

TEST_F(QmpBalloonTest, DeviceThatCannotBalloon) {
  for (const char* const error_class : {"DeviceNotActive", "KVMMissingCap"}) {
    refusals_["query-balloon"] = error_class;
    pass(QmpBalloon::kSearchPeriod);
    EXPECT_EQ(balloon_.view().link, Link::kNone) << error_class;
    EXPECT_EQ(balloon_.view().problem, "");
    refusals_.clear();
    pass(QmpBalloon::kSearchPeriod + kSecond);
    EXPECT_EQ(balloon_.view().link, Link::kReady);
  }
  // Unplugged.
  refusals_["query-balloon"] = "DeviceNotActive";
  pass(QmpBalloon::kSizePeriodIdle + kSecond);
  EXPECT_EQ(balloon_.view().link, Link::kNone);
}

TEST_F(QmpBalloonTest, SendsAWishOnceAndAgainAfterReconnecting) {
  settle();
  take_asked();
  balloon_.request(200 * kMib);
  EXPECT_LE(balloon_.wake_at(), now_);
  settle();
  EXPECT_THAT(take_asked(), ElementsAre("balloon 209715200"));
  balloon_.request(200 * kMib);
  settle();
  EXPECT_THAT(asked_, IsEmpty());
  // Of several wishes between two turns only the last one counts.
  balloon_.request(100 * kMib);
  balloon_.request(150 * kMib);
  settle();
  EXPECT_THAT(take_asked(), ElementsAre("balloon 157286400"));
  monitor_.hang_up();
  pass(3 * kSecond);
  EXPECT_EQ(connections_, 2);
  EXPECT_EQ(count("balloon 157286400"), 1u);
}

TEST_F(QmpBalloonTest, RefusedWishIsNotRepeated) {
  settle();
  refusals_["balloon"] = "GenericError";
  balloon_.request(0);
  pass(30 * kSecond);
  EXPECT_EQ(count("balloon 0"), 1u);
  EXPECT_EQ(balloon_.view().link, Link::kReady);
}

TEST_F(QmpBalloonTest, LooksOftenWhileTheSizeMoves) {
  pass(20 * kSecond);
  take_asked();
  pass(60 * kSecond);
  EXPECT_EQ(count("query-balloon"), 6u);
  take_asked();
  balloon_.request(100 * kMib);
  pass(20 * kSecond);
  EXPECT_NEAR(static_cast<double>(count("query-balloon")), 80, 2);
  actual_ = 100 * kMib;
  pass(2 * kSecond);
  EXPECT_EQ(balloon_.view().actual_bytes, 100 * kMib);
  pass(5 * kSecond);  // it has come to rest
  take_asked();
  pass(60 * kSecond);
  EXPECT_EQ(count("query-balloon"), 6u);
}

TEST_F(QmpBalloonTest, TakesTheSizeFromEvents) {
  pass(20 * kSecond);
  monitor_.event("BALLOON_CHANGE", {{"actual", 250 * kMib}});
  step();
  EXPECT_EQ(balloon_.view().actual_bytes, 250 * kMib);
  for (const json& nonsense : {json(), json{{"actual", "x"}}, json::array()}) {
    monitor_.event("BALLOON_CHANGE", nonsense);
    step();
    EXPECT_EQ(balloon_.view().actual_bytes, 250 * kMib);
  }
}

TEST_F(QmpBalloonTest, KnowsWhetherTheVmRuns) {
  runs_ = false;
  settle();
  EXPECT_FALSE(balloon_.view().vm_runs);
  const std::vector<std::pair<std::string, bool>> events = {
      {"RESUME", true}, {"STOP", false},     {"RESUME", true}, {"SUSPEND", false},
      {"WAKEUP", true}, {"SHUTDOWN", false}, {"RESUME", true}, {"NOISE", true}};
  for (const auto& [event, runs] : events) {
    monitor_.event(event);
    step();
    EXPECT_EQ(balloon_.view().vm_runs, runs) << event;
  }
  EXPECT_EQ(balloon_.view().link, Link::kReady);
}

TEST_F(QmpBalloonTest, TellsStatistics) {
  settle();
  pass(60 * kSecond);
  EXPECT_EQ(count("qom-get"), 0u);  // nobody wants them yet
  balloon_.set_stats_period(3);
  last_update_ = 0;
  pass(10 * kSecond);
  EXPECT_EQ(count("qom-set 3"), 1u);
  EXPECT_GE(count("qom-get"), 3u);
  EXPECT_FALSE(balloon_.view().stats);

  last_update_ = 77;
  stats_ = {{"stat-total-memory", 200 * kMib},
            {"stat-free-memory", 50 * kMib},
            {"stat-available-memory", 2 * kRam},  // a lie: passed on
            {"stat-swap-in", 0},
            {"stat-swap-out", UINT64_MAX},
            {"stat-major-faults", "many"},
            {"stat-of-the-future", 1}};
  pass(4 * kSecond);
  auto stats = balloon_.view().stats;
  ASSERT_TRUE(stats);
  EXPECT_EQ(stats->total_bytes, 200 * kMib);
  EXPECT_EQ(stats->free_bytes, 50 * kMib);
  EXPECT_EQ(stats->available_bytes, 2 * kRam);
  EXPECT_EQ(stats->swap_in_bytes, 0u);
  EXPECT_EQ(stats->swap_out_bytes, std::nullopt);
  EXPECT_EQ(stats->major_faults, std::nullopt);
  EXPECT_LE(now_ - stats->at, 4 * kSecond);

  // A guest that is silent: its last words stay, with their time.
  const Nanoseconds at = stats->at;
  stats_["stat-free-memory"] = 1;
  pass(20 * kSecond);
  EXPECT_EQ(balloon_.view().stats->at, at);
  EXPECT_EQ(balloon_.view().stats->free_bytes, 50 * kMib);
  last_update_ = 78;
  pass(4 * kSecond);
  EXPECT_GT(balloon_.view().stats->at, at);
  EXPECT_EQ(balloon_.view().stats->free_bytes, 1u);

  take_asked();
  balloon_.set_stats_period(0);
  settle();
  EXPECT_EQ(count("qom-set 0"), 1u);
  take_asked();
  pass(20 * kSecond);
  EXPECT_EQ(count("qom-get"), 0u);
}

TEST_F(QmpBalloonTest, AShorterPeriodBeginsAtOnce) {
  const auto periods = [&](uint32_t seconds) {
    balloon_.set_stats_period(seconds);
    settle();
    auto asked = take_asked();
    std::erase_if(asked, [](const std::string& one) { return !one.starts_with("qom-set"); });
    return asked;
  };
  // QEMU may have one from the daemon before.
  EXPECT_THAT(periods(10), ElementsAre("qom-set 0", "qom-set 10"));
  EXPECT_THAT(periods(10), IsEmpty());
  EXPECT_THAT(periods(1), ElementsAre("qom-set 0", "qom-set 1"));
  EXPECT_THAT(periods(10), ElementsAre("qom-set 10"));
}

TEST_F(QmpBalloonTest, StatisticsThatAreRefusedAreAbsent) {
  refusals_["qom-get"] = refusals_["qom-set"] = "GenericError";
  balloon_.set_stats_period(1);
  pass(10 * kSecond);
  EXPECT_EQ(balloon_.view().link, Link::kReady);
  EXPECT_FALSE(balloon_.view().stats);
  EXPECT_EQ(count("qom-set 1"), 1u);
}

TEST_F(QmpBalloonTest, ResetEmptiesTheBalloonThatQemuStillShows) {
  balloon_.set_stats_period(1);
  last_update_ = 5;
  actual_ = 100 * kMib;
  pass(3 * kSecond);
  ASSERT_EQ(balloon_.view().actual_bytes, 100 * kMib);
  ASSERT_TRUE(balloon_.view().stats);
  monitor_.event("RESET");
  monitor_.event("BALLOON_CHANGE", {{"actual", 100 * kMib}});  // held back since before
  step();
  EXPECT_EQ(balloon_.view().resets, 1u);
  EXPECT_FALSE(balloon_.view().stats);
  EXPECT_EQ(balloon_.view().actual_bytes, kRam);
  // The firmware resets once more; the new system's driver has nothing to do.
  monitor_.event("RESET");
  pass(60 * kSecond);
  EXPECT_EQ(balloon_.view().resets, 2u);
  EXPECT_EQ(balloon_.view().actual_bytes, kRam);
  EXPECT_FALSE(balloon_.view().stats);
  // It works again, and comes to the very size that was shown all the time.
  last_update_ = 6;
  actual_ = 180 * kMib;
  pass(10 * kSecond);
  EXPECT_EQ(balloon_.view().actual_bytes, 180 * kMib);
  EXPECT_TRUE(balloon_.view().stats);
  actual_ = 100 * kMib;
  pass(10 * kSecond);
  EXPECT_EQ(balloon_.view().actual_bytes, 100 * kMib);
}

TEST_F(QmpBalloonTest, AfterAResetTheOldSizeMayBeTheNewOne) {
  actual_ = 100 * kMib;
  pass(3 * kSecond);
  monitor_.event("RESET");
  pass(3 * kSecond);
  ASSERT_EQ(balloon_.view().actual_bytes, kRam);
  monitor_.event("BALLOON_CHANGE", {{"actual", 100 * kMib}});  // in one step
  step();
  EXPECT_EQ(balloon_.view().actual_bytes, 100 * kMib);
  pass(20 * kSecond);
  EXPECT_EQ(balloon_.view().actual_bytes, 100 * kMib);
}

TEST_F(QmpBalloonTest, UnreachableUntilItWorksAgain) {
  balloon_.set_stats_period(1);
  last_update_ = 5;
  pass(3 * kSecond);
  silent_ = true;
  pass(20 * kSecond);
  BalloonView view = balloon_.view();
  EXPECT_EQ(view.link, Link::kUnreachable);
  EXPECT_THAT(view.problem, HasSubstr("no reply within 5 s"));
  EXPECT_TRUE(view.stats);  // what was known, with its time
  silent_ = false;
  pass(QmpClient::kRetryMax + kSecond);
  view = balloon_.view();
  EXPECT_EQ(view.link, Link::kReady);
  EXPECT_EQ(view.problem, "");
  EXPECT_EQ(count("qom-set 1"), 2u);  // a QEMU may have forgotten
}

TEST_F(QmpBalloonTest, NonsenseIsUnreachable) { expect_nonsense("query-balloon"); }
TEST_F(QmpBalloonTest, NonsenseAboutDevices) { expect_nonsense("qom-list"); }
TEST_F(QmpBalloonTest, NonsenseAboutTheStatus) { expect_nonsense("query-status"); }
TEST_F(QmpBalloonTest, NonsenseAsStatistics) {
  balloon_.set_stats_period(1);
  for (const json& nonsense :
       {json(17), json{{"stats", 1}, {"last-update", 5}}, json{{"stats", json::object()}}}) {
    answers_["qom-get"] = nonsense;
    pass(QmpClient::kRetryMax + 5 * kSecond);
    EXPECT_GE(connections_, 2);
    EXPECT_FALSE(balloon_.view().stats);
  }
}

TEST_F(QmpBalloonTest, AFloodOfEventsHoldsNothingUp) {
  settle();
  for (int i = 0; i < 2000; ++i) {
    for (const char* const event : {"STOP", "RESUME", "SUSPEND", "WAKEUP", "NOISE"}) {
      monitor_.event(event);
    }
    step(10 * kMillisecond);
  }
  balloon_.request(100 * kMib);
  pass(2 * kSecond);
  EXPECT_EQ(count("balloon 104857600"), 1u);
  EXPECT_EQ(balloon_.view().link, Link::kReady);
  EXPECT_LT(count("query-balloon") + count("query-status"), 40u);
}

}  // namespace
}  // namespace ballast::linux_machine
