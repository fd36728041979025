#include "web/http.h"

#include "proto/control.h"
#include "proto/report_json.h"

namespace ballast::web {

Reply json_reply(unsigned status, const nlohmann::json& json) {
  Reply reply;
  reply.status = status;
  reply.body = std::make_shared<const std::string>(proto::to_line(json) + '\n');
  return reply;
}

Reply error_reply(unsigned status, const std::string& sentence) {
  return json_reply(status, proto::error_answer(sentence));
}

Reply answer_reply(const nlohmann::json& answer) {
  return json_reply(answer.value("ok", false) ? 200 : 400, answer);
}

}  // namespace ballast::web
