// What the daemon does for its HTTP end (web/web.h).
#include "daemon/daemon.h"

namespace ballast::daemon {

void Daemon::start_web() {
  if (!config_.http.enable) return;
  web::Web::Parts parts{.config = config_.http,
                        .state_dir = config_.state_dir,
                        .events = {},
                        .say = {},
                        .limits = {}};
  // The event log alone may be asked from any thread.
  parts.events.version = BALLAST_VERSION;
  parts.events.events = [this](uint64_t since) { return log_.since(since); };
  parts.events.last_event = [this] { return log_.last(); };
  parts.say = [this](web::Severity severity, std::string kind, std::string message) {
    log_.add(severity == web::Severity::kWarning ? machine::Severity::kWarning
                                                 : machine::Severity::kInfo,
             "", std::move(kind), std::move(message));
  };
  web_ = std::make_unique<web::Web>(std::move(parts));
}

void Daemon::serve_web(short revents) {
  if (!web_ || (revents == 0 && clock_.now() < web_->wake_at())) return;
  web_->serve(service());
}

}  // namespace ballast::daemon
