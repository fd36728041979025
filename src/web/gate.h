// Gate: who may ask, who may change, and how often.
//
// Reading is open to whoever reaches the socket (loopback by default), but only under names that
// are the host's own: a page from elsewhere whose name was made to point here (DNS rebinding)
// carries its own name in Host. Changing needs the token, and a browser must not be acting for
// another site. Web thread only.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/units.h"
#include "web/http.h"
#include "web/web_config.h"

namespace ballast::web {

// STATE_DIR/http-token: 64 hexadecimal digits, mode 0600, made at the first start.
Result<std::string> load_or_make_token(const std::string& path);

class Gate {
 public:
  // Without a token nothing can be changed.
  Gate(WebConfig config, std::string token, std::string token_path)
      : config_(std::move(config)), token_(std::move(token)), token_path_(std::move(token_path)) {}

  // Why the request is not answered at all.
  std::optional<Reply> refuses(const Request& request) const;
  // Why it may not change anything.
  std::optional<Reply> refuses_change(const Request& request) const;

 private:
  bool knows_host(std::string_view host) const;

  const WebConfig config_;
  const std::string token_;
  const std::string token_path_;
};

// So many at once, so many per second in the long run.
class RateLimit {
 public:
  RateLimit(double per_second, double at_once)
      : per_second_(per_second), at_once_(at_once), left_(at_once) {}
  bool take(Nanoseconds now);

 private:
  const double per_second_;
  const double at_once_;
  double left_;
  Nanoseconds last_ = 0;
};

}  // namespace ballast::web
