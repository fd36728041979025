// Web: the daemon's HTTP end as the daemon sees it. Starts two threads (HTTP, history) that never
// touch the engine.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "proto/control.h"
#include "web/api.h"
#include "web/history.h"
#include "web/say.h"
#include "web/server.h"
#include "web/web_config.h"

namespace ballast::web {

class Web {
 public:
  struct Parts {
    WebConfig config;
    std::string state_dir;         // of the token and the history
    proto::ControlService events;  // version, events and last_event, callable from any thread
    Say say;
    ServerLimits limits = {};
  };
  // Whatever fails is said, and goes without: the daemon's work does not depend on it.
  explicit Web(Parts parts);
  ~Web();
  Web(const Web&) = delete;
  Web& operator=(const Web&) = delete;

  // Main thread: serve() when bell() is readable and at wake_at().
  int bell() const { return desk_.daemon_bell(); }
  Nanoseconds wake_at() const { return desk_.wake_at(); }
  void serve(const proto::ControlService& service) { desk_.serve(service); }

  uint16_t port() const { return server_.port(); }

 private:
  const Parts parts_;
  Desk desk_;
  std::unique_ptr<History> history_;
  Api api_;
  Server server_;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace ballast::web
