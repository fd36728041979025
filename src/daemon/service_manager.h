// ServiceManager: what systemd is told about this process (sd_notify(3)): ready, how it does, that
// its main loop turns. Says nothing when it was not started by systemd. Main thread only.
#pragma once

#include <string>

#include "base/units.h"

namespace ballast::daemon {

class ServiceManager {
 public:
  // Reads WATCHDOG_USEC, which is meant for this process alone.
  ServiceManager();

  void ready() { send("READY=1"); }
  // Until the next ready().
  void reloading();
  void stopping() { send("STOPPING=1"); }
  // One line for `systemctl status`; sent when it is another one.
  void status(const std::string& text);

  // The main loop has turned: every round, and not later than wake_at(). A daemon that hangs sends
  // nothing and is replaced, which costs its guests a pause.
  void alive(Nanoseconds now);
  Nanoseconds wake_at() const { return next_alive_; }

 private:
  static void send(const std::string& state);

  std::string status_;
  Nanoseconds period_ = 0;  // 0: nobody watches
  Nanoseconds next_alive_ = UINT64_MAX;
};

}  // namespace ballast::daemon
