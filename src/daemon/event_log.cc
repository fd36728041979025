#include "daemon/event_log.h"

#include <chrono>

namespace ballast::daemon {

void EventLog::add(machine::Severity severity, std::string vm, std::string kind,
                   std::string message) {
  const auto now = std::chrono::system_clock::now();
  if (severity >= least_printed_.load()) output_.write({now, severity, vm, kind, message});
  Event event;
  event.unix_ms = static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count());
  event.severity = name_of(severity);
  event.vm = std::move(vm);
  event.kind = std::move(kind);
  event.message = std::move(message);
  const std::lock_guard hold(lock_);
  event.sequence = ++last_;
  events_.push_back(std::move(event));
  if (events_.size() > kKept) events_.pop_front();
}

std::vector<Event> EventLog::since(uint64_t sequence) const {
  const std::lock_guard hold(lock_);
  std::vector<Event> found;
  for (const Event& event : events_) {
    if (event.sequence > sequence) found.push_back(event);
  }
  return found;
}

uint64_t EventLog::last() const {
  const std::lock_guard hold(lock_);
  return last_;
}

}  // namespace ballast::daemon
