// One HTTP request and its reply, as the API sees them: no sockets, no library. Plain data.
#pragma once

#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

namespace ballast::web {

struct Request {
  std::string method;  // GET also for HEAD
  std::string path;    // percent-decoded, without the query
  std::map<std::string, std::string> query;
  // Headers; empty when they are not there.
  std::string host;
  std::string origin;
  std::string authorization;
  std::string content_type;
  std::string last_event_id;
  std::string body;
};

struct Reply {
  unsigned status = 200;
  std::string type = "application/json";
  std::shared_ptr<const std::string> body;
  std::vector<std::pair<std::string, std::string>> headers;  // besides those that every reply has
};

Reply json_reply(unsigned status, const nlohmann::json& json);
// {"ok":false,"error":"…"}, as the control socket says it.
Reply error_reply(unsigned status, const std::string& sentence);
// What proto::answer() said: 200, or 400 where it refused.
Reply answer_reply(const nlohmann::json& answer);

}  // namespace ballast::web
