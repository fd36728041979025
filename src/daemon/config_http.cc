#include "daemon/config_http.h"

#include <sstream>

namespace ballast::daemon {

Status set_http_listen(Config& config, const std::string& text) {
  return web::parse_listen(text, config.http);
}

std::string get_http_listen(const Config& config) {
  const web::WebConfig& http = config.http;
  if (!http.enable) return "off";
  return http.address.find(':') == std::string::npos
             ? fmt::format("{}:{}", http.address, http.port)
             : fmt::format("[{}]:{}", http.address, http.port);
}

Status set_http_names(Config& config, const std::string& text) {
  std::vector<std::string> names;
  std::istringstream list(text);
  for (std::string name; std::getline(list, name, ',');) {
    BALLAST_TRY_STATUS(web::check_host_name(name));
    names.push_back(name);
  }
  config.http.names = std::move(names);
  return Done{};
}

std::string get_http_names(const Config& config) {
  return fmt::format("{}", fmt::join(config.http.names, ","));
}

Status set_http_history(Config& config, const std::string& text) {
  if (text != "0" && text != "1") return Error{"must be true or false"};
  config.http.history = text == "1";
  return Done{};
}

std::string get_http_history(const Config& config) { return config.http.history ? "1" : "0"; }

}  // namespace ballast::daemon
