#include "web/web_config.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

namespace ballast::web {

namespace {

Error refused(std::string_view text) {
  return Error{fmt::format(
      "'{}' is no address to listen on: a numeric one with a port such as 127.0.0.1:14631 or "
      "[::1]:14631 is needed, or off",
      text)};
}

bool is_numeric(const std::string& address) {
  in6_addr buffer{};
  return inet_pton(AF_INET, address.c_str(), &buffer) == 1 ||
         inet_pton(AF_INET6, address.c_str(), &buffer) == 1;
}

}  // namespace

Status parse_listen(std::string_view text, WebConfig& config) {
  if (text == "off") {
    config.enable = false;
    return Done{};
  }
  std::string_view address = text;
  std::string_view port;
  if (text.starts_with('[')) {
    const size_t end = text.find(']');
    if (end == std::string_view::npos) return refused(text);
    address = text.substr(1, end - 1);
    port = text.substr(end + 1);
    if (!port.empty() && port.front() != ':') return refused(text);
    if (!port.empty()) port.remove_prefix(1);
  } else if (std::ranges::count(text, ':') == 1) {
    const size_t colon = text.find(':');
    address = text.substr(0, colon);
    port = text.substr(colon + 1);
    if (port.empty()) return refused(text);
  }
  if (!is_numeric(std::string(address))) return refused(text);
  uint16_t number = config.port;
  if (!port.empty()) {
    const auto [end, problem] = std::from_chars(port.data(), port.data() + port.size(), number);
    if (problem != std::errc() || end != port.data() + port.size()) return refused(text);
  }
  config.enable = true;
  config.address = address;
  config.port = number;
  return Done{};
}

Status check_host_name(std::string_view name) {
  const bool good = !name.empty() && name.size() <= 253 && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_';
  });
  if (good) return Done{};
  return Error{fmt::format(
      "'{}' is no host name: letters, digits, '-' and '.' are possible, without a port", name)};
}

bool is_loopback(const WebConfig& config) {
  return config.address.starts_with("127.") || config.address == "::1";
}

std::string url_of(const WebConfig& config, uint16_t port) {
  const bool is_v6 = config.address.find(':') != std::string::npos;
  return is_v6 ? fmt::format("http://[{}]:{}/", config.address, port)
               : fmt::format("http://{}:{}/", config.address, port);
}

}  // namespace ballast::web
