// Desk: where the web thread leaves questions and the daemon's main thread answers them.
//
// The main thread alone touches the engine: it makes a snapshot when somebody wants one or the
// history is due, at most once a second, and answers the other questions as it answers the control
// socket's. It never waits here. The web thread never waits either: it looks again when its bell
// rings.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "base/units.h"
#include "model/report.h"
#include "proto/control.h"

namespace ballast::web {

inline constexpr Nanoseconds kSamplePeriod = 10 * kSecond;
// A snapshot as old as this is made anew when somebody asks.
inline constexpr Nanoseconds kFresh = kSecond;

Nanoseconds steady_now();

// One moment of the host. Never changes once it is published.
struct Snapshot {
  HostReport host;
  uint64_t unix_ms = 0;
  Nanoseconds at = 0;   // steady_now()
  uint64_t number = 0;  // 1, 2, …
};

// One request to the main thread and, later, its answer.
struct Question {
  nlohmann::json request;
  std::optional<nlohmann::json> answer;  // the desk's lock guards it
};

class Desk {
 public:
  // `periodic`: snapshots are wanted for the history too.
  explicit Desk(bool periodic);
  ~Desk();
  Desk(const Desk&) = delete;
  Desk& operator=(const Desk&) = delete;

  // Main thread.
  int daemon_bell() const { return daemon_bell_; }
  Nanoseconds wake_at() const { return periodic_ ? published_ + kSamplePeriod : UINT64_MAX; }
  void serve(const proto::ControlService& service);

  // Web thread.
  int web_bell() const { return web_bell_; }
  std::shared_ptr<const Snapshot> latest() const;
  void want_snapshot();
  // Nothing when too many wait already. Who drops it before the answer is there has taken it back.
  std::shared_ptr<Question> ask(nlohmann::json request);
  std::optional<nlohmann::json> answer_of(const Question& question) const;

  void ring_web() const;  // any thread

 private:
  static constexpr size_t kQuestionsMax = 16;

  const bool periodic_;
  int daemon_bell_ = -1;
  int web_bell_ = -1;
  Nanoseconds published_ = 0;  // main thread only
  uint64_t number_ = 0;        // main thread only
  mutable std::mutex lock_;    // guards what follows; held for moments only
  bool wanted_ = false;
  std::vector<std::shared_ptr<Question>> asked_;
  std::shared_ptr<const Snapshot> latest_;
};

void ring(int event_fd);
void drain(int event_fd);

}  // namespace ballast::web
