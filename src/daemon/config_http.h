// The keys of the configuration's [http] table, as ConfigKey has them.
#pragma once

#include "daemon/config.h"

namespace ballast::daemon {

// "127.0.0.1:14631", or off.
Status set_http_listen(Config& config, const std::string& text);
std::string get_http_listen(const Config& config);
// Host names, by commas; may be empty.
Status set_http_names(Config& config, const std::string& text);
std::string get_http_names(const Config& config);
// 1 or 0.
Status set_http_history(Config& config, const std::string& text);
std::string get_http_history(const Config& config);

}  // namespace ballast::daemon
