// WebConfig: the [http] part of the configuration: where the daemon listens for HTTP, and under
// which names.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace ballast::web {

struct WebConfig {
  bool enable = true;
  std::string address = "127.0.0.1";  // numeric, IPv4 or IPv6
  uint16_t port = 14631;              // 0: any that is free
  std::vector<std::string> names;     // host names it may be asked under, besides localhost
  bool history = true;
};

// "127.0.0.1:14631", "[::1]:14631", "127.0.0.1" (keeps the port), or "off".
Status parse_listen(std::string_view text, WebConfig& config);
// A host name as it stands in a Host header, without a port.
Status check_host_name(std::string_view name);

bool is_loopback(const WebConfig& config);
// "http://127.0.0.1:14631/".
std::string url_of(const WebConfig& config, uint16_t port);

}  // namespace ballast::web
