#include "web/web.h"

#include <sys/prctl.h>

namespace ballast::web {

namespace {

Gate make_gate(const Web::Parts& parts) {
  const std::string path = parts.state_dir + "/http-token";
  auto token = load_or_make_token(path);
  if (!token) {
    parts.say(Severity::kWarning, "http.no-token",
              "nothing can be changed over HTTP: " + token.error().message);
  }
  return Gate(parts.config, token ? *token : std::string(), path);
}

}  // namespace

Web::Web(Parts parts)
    : parts_(std::move(parts)),
      desk_(parts_.config.history),
      history_(parts_.config.history
                   ? std::make_unique<History>(parts_.state_dir + "/history.sqlite", parts_.say,
                                               [this] { desk_.ring_web(); })
                   : nullptr),
      api_(make_gate(parts_), parts_.events, history_ != nullptr),
      server_(parts_.config, api_, desk_, history_.get(), parts_.say, parts_.limits),
      thread_([this] {
        prctl(PR_SET_NAME, "http");
        server_.run(stopping_);
      }) {}

Web::~Web() {
  stopping_ = true;
  desk_.ring_web();
  thread_.join();
}

}  // namespace ballast::web
