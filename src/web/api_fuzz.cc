// libFuzzer: whatever a request says, the API plans an answer: a reply with one JSON object and a
// status that fits, or something to fetch whose words make sense; and nothing is changed without
// the token.
//
//   build-fuzz/bin/api_fuzz -max_total_time=60
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "web/api.h"
#include "web/test_host.h"

namespace {

using namespace ballast::web;
using nlohmann::json;

constexpr uint64_t kNow = 1'700'000'007;

std::string_view take_line(std::string_view& input) {
  const size_t end = input.find('\n');
  const std::string_view line = input.substr(0, end);
  input.remove_prefix(end == std::string_view::npos ? input.size() : end + 1);
  return line;
}

// One line each: method, path, Host, Origin, Authorization, type, Last-Event-ID, a parameter's name
// and value; then the body.
Request request_from(std::string_view input) {
  Request request;
  for (std::string* member :
       {&request.method, &request.path, &request.host, &request.origin, &request.authorization,
        &request.content_type, &request.last_event_id}) {
    *member = take_line(input);
  }
  const std::string name(take_line(input));
  if (!name.empty()) request.query[name] = take_line(input);
  request.body = input;
  return request;
}

void check_reply(const Reply& reply) {
  BALLAST_CHECK(reply.body != nullptr && reply.status >= 200 && reply.status < 600);
  if (reply.type != "application/json") return;
  const json body = json::parse(*reply.body, nullptr, false);
  BALLAST_CHECK(body.is_object() && body.contains("ok"));
  BALLAST_CHECK((reply.status == 200) == body["ok"].get<bool>());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string kToken =
      "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
  static const Api kApi(Gate({}, kToken, "/t"), make_events(), true);
  const Request request = request_from({reinterpret_cast<const char*>(data), size});
  const Plan plan = kApi.plan(request, kNow);
  if (const auto* reply = std::get_if<Reply>(&plan)) check_reply(*reply);
  if (const auto* wanted = std::get_if<FromSnapshot>(&plan)) {
    auto snapshot = std::make_shared<Snapshot>();
    snapshot->host = make_host(2);
    View view(snapshot, "1");
    check_reply(wanted->make(view));
  }
  if (const auto* wanted = std::get_if<FromDaemon>(&plan)) {
    const auto op = wanted->request.at("op").get<std::string>();
    const bool reads = op == "options" && wanted->request.size() == 1;
    if (!reads && op != "whatif") {
      BALLAST_CHECK(request.authorization.find(kToken) != std::string::npos);
    }
  }
  if (const auto* wanted = std::get_if<FromHistory>(&plan)) {
    const HistoryQuery& query = wanted->query;
    BALLAST_CHECK(query.step >= kSampleSeconds && query.since < query.until);
    BALLAST_CHECK((query.until - query.since + query.step - 1) / query.step <= kPointsMax);
  }
  return 0;
}
