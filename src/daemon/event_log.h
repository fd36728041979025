// EventLog: what happened, for `ballast events` and the log. Keeps the newest 4096. Any
// thread.
#pragma once

#include <atomic>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "daemon/log_output.h"
#include "machine/vm_control.h"
#include "model/report.h"

namespace ballast::daemon {

class EventLog {
 public:
  explicit EventLog(machine::Severity least_printed) : least_printed_(least_printed) {}

  void set_least_printed(machine::Severity least) { least_printed_ = least; }
  // `vm` is empty for events of the host.
  void add(machine::Severity severity, std::string vm, std::string kind, std::string message);
  auto sink() {
    return
        [this](machine::Severity severity, std::string vm, std::string kind, std::string message) {
          add(severity, std::move(vm), std::move(kind), std::move(message));
        };
  }
  // Those with a higher sequence, oldest first.
  std::vector<Event> since(uint64_t sequence) const;
  uint64_t last() const;

 private:
  static constexpr size_t kKept = 4096;
  const LogOutput output_;
  std::atomic<machine::Severity> least_printed_;
  mutable std::mutex lock_;  // guards the two below; never held while printing
  std::deque<Event> events_;
  uint64_t last_ = 0;
};

}  // namespace ballast::daemon
