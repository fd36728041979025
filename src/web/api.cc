#include "web/api.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "cli/render.h"
#include "proto/control_requests.h"
#include "proto/report_json.h"
#include "web/assets.h"
#include "web/metrics.h"

namespace ballast::web {

namespace {

using nlohmann::json;

constexpr std::string_view kRoot = "/api/v1/";
constexpr size_t kEventsOfWhy = 5;
constexpr uint64_t kDefaultPoints = 360;

struct Change {
  std::string_view path;
  bool needs_token;
};
// POST /api/v1/PATH is {"op":PATH,…body}.
constexpr std::array kPosts = {Change{"whatif", false},  Change{"set", true},
                               Change{"options", true},  Change{"resume", true},
                               Change{"reclaim", true},  Change{"reserve", true},
                               Change{"unreserve", true}};

Reply text_reply(std::string_view type, std::shared_ptr<const std::string> text) {
  Reply reply;
  reply.type = type;
  reply.body = std::move(text);
  return reply;
}

Reply not_found(const std::string& path) {
  return error_reply(404, fmt::format("there is nothing at {}; docs/api.md lists what there is, "
                                      "such as /api/v1/host and /metrics",
                                      proto::in_quotes(path)));
}

Reply wrong_method(const char* allowed) {
  Reply reply = error_reply(405, fmt::format("this path takes {} only", allowed));
  reply.headers.emplace_back("Allow", allowed);
  return reply;
}

Plan from_snapshot(std::function<Reply(View&)> make) { return FromSnapshot{std::move(make)}; }

std::shared_ptr<const std::string> shared_line(const json& answer) {
  return std::make_shared<const std::string>(proto::to_line(answer) + '\n');
}

// The answer of the control socket's code, from a snapshot instead of from the engine.
Reply answer_from(const json& request, View& view) {
  proto::ControlService service;
  service.host = [&view] { return view.snapshot().host; };
  const json answer = proto::answer(request, service);
  return answer.value("ok", false) ? json_reply(200, answer) : json_reply(404, answer);
}

Status check_names(const std::map<std::string, std::string>& query,
                   std::initializer_list<std::string_view> known) {
  for (const auto& [name, value] : query) {
    if (std::ranges::find(known, name) == known.end()) {
      return Error{fmt::format("{} is no parameter here; known are {}", proto::in_quotes(name),
                               fmt::join(known, ", "))};
    }
  }
  return Done{};
}

Result<uint64_t> since_of(const Request& request) {
  BALLAST_TRY_STATUS(check_names(request.query, {"since"}));
  const auto since = request.query.find("since");
  return since == request.query.end() ? Result<uint64_t>(0) : parse_number("since", since->second);
}

// Seconds since 1970, or with a minus so long before now.
Result<uint64_t> parse_moment(std::string_view name, std::string_view text, uint64_t now) {
  if (!text.starts_with('-')) return parse_number(name, text);
  BALLAST_TRY(const uint64_t ago, parse_number(name, text.substr(1)));
  return now - std::min(now, ago);
}

}  // namespace

const std::shared_ptr<const std::string>& View::host_json() {
  if (!host_json_) {
    host_json_ = shared_line({{"ok", true},
                              {"unix_ms", snapshot_->unix_ms},
                              {"version", version_},
                              {"host", proto::to_json(snapshot_->host)}});
  }
  return host_json_;
}

const std::shared_ptr<const std::string>& View::metrics() {
  if (!metrics_) {
    metrics_ = std::make_shared<const std::string>(metrics_text(snapshot_->host, version_));
  }
  return metrics_;
}

Result<uint64_t> parse_number(std::string_view name, std::string_view text) {
  uint64_t number = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (!text.empty() && problem == std::errc() && end == text.data() + text.size()) return number;
  return Error{
      fmt::format("{}={} is refused: a whole number is needed", name, proto::in_quotes(text))};
}

Result<HistoryQuery> parse_history_query(const std::map<std::string, std::string>& query,
                                         uint64_t unix_seconds) {
  BALLAST_TRY_STATUS(check_names(query, {"since", "until", "step", "vm", "vms"}));
  const auto given = [&](const char* name) {
    const auto found = query.find(name);
    return found == query.end() ? std::string() : found->second;
  };
  HistoryQuery result;
  result.until = unix_seconds + 1;
  result.since = unix_seconds - std::min(unix_seconds, kFineSeconds);
  if (const std::string text = given("until"); !text.empty()) {
    BALLAST_TRY(result.until, parse_moment("until", text, unix_seconds));
    result.until = std::min(result.until, unix_seconds + 1);
  }
  if (const std::string text = given("since"); !text.empty()) {
    BALLAST_TRY(result.since, parse_moment("since", text, unix_seconds));
  }
  // Older samples are gone.
  result.since = std::max(result.since, unix_seconds - std::min(unix_seconds, kHistorySeconds));
  if (result.since >= result.until) {
    return Error{"since must be before until, and before now"};
  }
  const uint64_t span = result.until - result.since;
  result.step = std::max(kSampleSeconds, span / kDefaultPoints);
  result.step += (kSampleSeconds - result.step % kSampleSeconds) % kSampleSeconds;
  if (const std::string text = given("step"); !text.empty()) {
    BALLAST_TRY(result.step, parse_number("step", text));
    if (result.step < kSampleSeconds || result.step > kHistorySeconds ||
        span / result.step + 2 > kPointsMax) {  // + 2: both ends may be cut
      return Error{fmt::format(
          "step={} is refused: from {} to {} seconds, so that there are at most {} points",
          result.step, std::max(kSampleSeconds, span / (kPointsMax - 2) + 1), kHistorySeconds,
          kPointsMax)};
    }
  }
  result.since -= result.since % result.step;
  if (const std::string text = given("vms"); !text.empty()) {
    if (text != "all") return Error{"vms=all is the only list there is; vm=NAME is one VM"};
    result.all_vms = true;
  }
  if (const std::string text = given("vm"); !text.empty()) {
    BALLAST_TRY_STATUS(proto::check_vm_name(text));
    result.vm = text;
    result.all_vms = false;
  }
  return result;
}

Plan Api::plan(const Request& request, uint64_t unix_seconds) const {
  if (auto refusal = gate_.refuses(request)) return *refusal;
  if (request.method == "GET") return plan_get(request, unix_seconds);
  if (request.method == "POST") return plan_post(request);
  return wrong_method("GET, HEAD, POST");
}

Plan Api::plan_get(const Request& request, uint64_t unix_seconds) const {
  for (const Asset& asset : assets()) {
    if (asset.path == request.path) {
      return text_reply(asset.type, std::make_shared<const std::string>(asset.content));
    }
  }
  if (request.path == "/metrics") {
    return from_snapshot([](View& view) { return text_reply(kMetricsType, view.metrics()); });
  }
  if (!request.path.starts_with(kRoot)) return not_found(request.path);
  const std::string_view path = std::string_view(request.path).substr(kRoot.size());
  if (path == "version") return answer_reply(proto::answer({{"op", "version"}}, events_));
  if (path == "host") {
    return from_snapshot(
        [](View& view) { return text_reply("application/json", view.host_json()); });
  }
  if (path == "vms") {
    return from_snapshot([](View& view) { return answer_from({{"op", "ls"}}, view); });
  }
  if (path.starts_with("vms/")) return plan_vm(path.substr(4));
  if (path == "events") return plan_events(request);
  if (path == "events/stream") return plan_stream(request);
  if (path == "history") return plan_history(request, unix_seconds);
  if (path == "options") return FromDaemon{{{"op", "options"}}};
  const bool is_post =
      std::ranges::any_of(kPosts, [&](const Change& post) { return post.path == path; });
  return is_post ? wrong_method("POST") : not_found(request.path);
}

Plan Api::plan_post(const Request& request) const {
  const std::string_view path = std::string_view(request.path).starts_with(kRoot)
                                    ? std::string_view(request.path).substr(kRoot.size())
                                    : std::string_view();
  const auto* const post = std::ranges::find(kPosts, path, &Change::path);
  if (post == kPosts.end()) {
    const Plan as_get = plan_get(request, 0);
    const auto* const reply = std::get_if<Reply>(&as_get);
    const bool is_nothing = reply != nullptr && reply->status == 404;
    return is_nothing ? not_found(request.path) : wrong_method("GET, HEAD");
  }
  if (post->needs_token) {
    if (auto refusal = gate_.refuses_change(request)) return *refusal;
  }
  // A page of another site cannot send this type without asking first, and is not allowed to.
  if (!request.content_type.starts_with("application/json")) {
    return error_reply(415,
                       "the body must be JSON, with the header 'Content-Type: application/json'");
  }
  json body = json::parse(request.body, nullptr, false);
  if (!body.is_object()) {
    return error_reply(
        400, R"(the body must be one JSON object, such as {"vm":"web1","shares":"high"})");
  }
  if (body.contains("op")) return error_reply(400, "\"op\" is given by the path, not by the body");
  body["op"] = post->path;
  return FromDaemon{std::move(body)};
}

Plan Api::plan_vm(std::string_view rest) const {
  constexpr std::string_view kWhy = "/why";
  const bool why = rest.ends_with(kWhy);
  std::string name(rest.substr(0, rest.size() - (why ? kWhy.size() : 0)));
  if (const Status good = proto::check_vm_name(name); !good) {
    return error_reply(404, good.error().message);
  }
  if (why) return plan_why(name);
  return from_snapshot([name](View& view) {
    return answer_from({{"op", "show"}, {"vm", name}}, view);
  });
}

Plan Api::plan_why(const std::string& name) const {
  return from_snapshot([name, &events = events_](View& view) {
    const auto vm = proto::find_vm(view.snapshot().host, {{"vm", name}});
    if (!vm) return error_reply(404, vm.error().message);
    std::vector<Event> last = events.events(0);
    std::erase_if(last, [&](const Event& event) { return event.vm != name; });
    if (last.size() > kEventsOfWhy) last.erase(last.begin(), last.end() - kEventsOfWhy);
    // Not wrapped: the page does that.
    const std::string text =
        cli::render_why(*vm, view.snapshot().host, last, {.colours = false, .width = 0});
    return json_reply(200, {{"ok", true}, {"vm", name}, {"text", text}});
  });
}

Plan Api::plan_events(const Request& request) const {
  const auto since = since_of(request);
  if (!since) return error_reply(400, since.error().message);
  return answer_reply(proto::answer({{"op", "events"}, {"since", *since}}, events_));
}

Plan Api::plan_stream(const Request& request) const {
  // A browser that comes back says where it was.
  const auto since = request.last_event_id.empty()
                         ? since_of(request)
                         : parse_number("Last-Event-ID", request.last_event_id);
  if (!since) return error_reply(400, since.error().message);
  return EventStream{*since};
}

Plan Api::plan_history(const Request& request, uint64_t unix_seconds) const {
  if (!has_history_) {
    return error_reply(404, "no history is kept: history = false in [http] of the configuration");
  }
  auto query = parse_history_query(request.query, unix_seconds);
  if (!query) return error_reply(400, query.error().message);
  return FromHistory{std::move(*query)};
}

}  // namespace ballast::web
