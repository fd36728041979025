#include "web/api.h"

#include <gmock/gmock.h>

#include "web/test_host.h"

namespace ballast::web {
namespace {

using nlohmann::json;
using testing::HasSubstr;

constexpr uint64_t kNow = 1'700'000'007;
const std::string kToken(64, 'a');

Api make_api(WebConfig config = {}) {
  return {Gate(std::move(config), kToken, "/state/http-token"), make_events(), true};
}

Request get(const std::string& path, std::map<std::string, std::string> query = {}) {
  Request request;
  request.method = "GET";
  request.path = path;
  request.query = std::move(query);
  request.host = "localhost:14631";
  return request;
}

Request post(const std::string& path, const std::string& body) {
  Request request = get(path);
  request.method = "POST";
  request.content_type = "application/json";
  request.authorization = "Bearer " + kToken;
  request.body = body;
  return request;
}

// The reply that is there at once, or is made of a snapshot of two VMs.
Reply reply_to(const Api& api, const Request& request) {
  const Plan plan = api.plan(request, kNow);
  if (const auto* reply = std::get_if<Reply>(&plan)) return *reply;
  const auto* wanted = std::get_if<FromSnapshot>(&plan);
  if (wanted == nullptr) return Reply{.status = 0, .type = "", .body = {}, .headers = {}};
  auto snapshot = std::make_shared<Snapshot>();
  snapshot->host = make_host(2);
  snapshot->unix_ms = 5;
  View view(snapshot, "1.2.3");
  return wanted->make(view);
}

json body_of(const Reply& reply) { return json::parse(*reply.body); }

TEST(Api, TellsHostAndVmsFromASnapshot) {
  const Api api = make_api();
  const json host = body_of(reply_to(api, get("/api/v1/host")));
  EXPECT_EQ(host["ok"], true);
  EXPECT_EQ(host["unix_ms"], 5);
  EXPECT_EQ(host["host"]["vms"].size(), 2u);
  EXPECT_EQ(body_of(reply_to(api, get("/api/v1/vms")))["vms"][1]["name"], "vm1");
  EXPECT_EQ(body_of(reply_to(api, get("/api/v1/vms/vm1")))["vm"]["faults"], 1001);
  EXPECT_EQ(reply_to(api, get("/api/v1/vms/vm7")).status, 404u);
  EXPECT_EQ(reply_to(api, get("/api/v1/vms/../../etc")).status, 404u);
  EXPECT_THAT(*reply_to(api, get("/metrics")).body, HasSubstr("ballast_host_vms 2"));
}

TEST(Api, SaysWhyInTheWordsOfTheCommand) {
  const json why = body_of(reply_to(make_api(), get("/api/v1/vms/vm0/why")));
  const auto text = why["text"].get<std::string>();
  EXPECT_THAT(text, HasSubstr("vm0 consumes 64 MB; its target is 90 MB, of 256 MB configured."));
  EXPECT_THAT(text, HasSubstr("event 1"));
  EXPECT_EQ(text.find("event 2"), std::string::npos);  // the host's
}

TEST(Api, TellsEventsAfterASequence) {
  const json events = body_of(reply_to(make_api(), get("/api/v1/events", {{"since", "2"}})));
  EXPECT_EQ(events["events"].size(), 1u);
  EXPECT_EQ(events["last"], 3);
  EXPECT_EQ(reply_to(make_api(), get("/api/v1/events", {{"since", "-1"}})).status, 400u);
  EXPECT_EQ(reply_to(make_api(), get("/api/v1/events", {{"after", "1"}})).status, 400u);
  Request stream = get("/api/v1/events/stream");
  stream.last_event_id = "17";
  EXPECT_EQ(std::get<EventStream>(make_api().plan(stream, kNow)).since, 17u);
  stream.last_event_id = "x";
  EXPECT_EQ(reply_to(make_api(), stream).status, 400u);
}

TEST(Api, WhatIsNotInASnapshotIsAskedInTheControlSocketsWords) {
  const Api api = make_api();
  EXPECT_EQ(std::get<FromDaemon>(api.plan(get("/api/v1/options"), kNow)).request,
            json({{"op", "options"}}));
  const Plan set = api.plan(post("/api/v1/set", R"({"vm":"vm0","shares":"high"})"), kNow);
  EXPECT_EQ(std::get<FromDaemon>(set).request,
            json({{"op", "set"}, {"vm", "vm0"}, {"shares", "high"}}));
}

TEST(Api, ChangesNeedTheToken) {
  for (const char* path : {"set", "options", "resume", "reclaim", "reserve", "unreserve"}) {
    Request request = post(std::string("/api/v1/") + path, "{}");
    EXPECT_TRUE(std::holds_alternative<FromDaemon>(make_api().plan(request, kNow))) << path;
    for (const std::string& wrong :
         {std::string(), std::string("Bearer "), "Bearer " + std::string(64, 'b'), kToken,
          "Bearer " + kToken + "a", "Basic " + kToken}) {
      request.authorization = wrong;
      const Reply reply = reply_to(make_api(), request);
      EXPECT_EQ(reply.status, 401u) << path << " " << wrong;
      EXPECT_EQ(reply.body->find(kToken), std::string::npos);
    }
  }
  // Asking changes nothing.
  Request question = post("/api/v1/whatif", "{}");
  question.authorization.clear();
  EXPECT_TRUE(std::holds_alternative<FromDaemon>(make_api().plan(question, kNow)));
  // Without a token of its own nobody has the right one.
  const Api closed(Gate({}, "", "/t"), make_events(), true);
  Request request = post("/api/v1/set", "{}");
  request.authorization = "Bearer ";
  EXPECT_EQ(reply_to(closed, request).status, 403u);
}

TEST(Api, OtherSitesAndOtherNamesAreRefused) {
  WebConfig config;
  config.names = {"Host.Example"};
  for (const char* good : {"localhost", "LOCALHOST:1", "127.0.0.1:14631", "[::1]:14631",
                           "host.example:80", "host.example"}) {
    Request request = get("/api/v1/version");
    request.host = good;
    EXPECT_EQ(reply_to(make_api(config), request).status, 200u) << good;
  }
  for (const char* bad : {"", "evil.example", "localhost.evil.example", "127.0.0.1.evil", "[",
                          "192.0.2.1", "evil:127.0.0.1", "host.example.evil"}) {
    Request request = get("/api/v1/version");
    request.host = bad;
    EXPECT_EQ(reply_to(make_api(config), request).status, 421u) << bad;
  }
  // Beyond loopback an address is as good as another; a name still is not.
  config.address = "0.0.0.0";
  Request request = get("/api/v1/version");
  request.host = "192.0.2.1:14631";
  EXPECT_EQ(reply_to(make_api(config), request).status, 200u);
  request.host = "evil.example";
  EXPECT_EQ(reply_to(make_api(config), request).status, 421u);

  Request change = post("/api/v1/set", "{}");
  change.origin = "http://localhost:14631";
  EXPECT_TRUE(std::holds_alternative<FromDaemon>(make_api().plan(change, kNow)));
  for (const char* origin : {"http://evil.example", "null", "http://localhost:8080"}) {
    change.origin = origin;
    EXPECT_EQ(reply_to(make_api(), change).status, 403u) << origin;
  }
}

TEST(Api, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(reply_to(make_api(), get("/api/v1/nothing")).status, 404u);
  EXPECT_EQ(reply_to(make_api(), get("/nothing")).status, 404u);
  EXPECT_EQ(reply_to(make_api(), get("/api/v1/set")).status, 405u);
  EXPECT_EQ(reply_to(make_api(), post("/api/v1/host", "{}")).status, 405u);
  EXPECT_EQ(reply_to(make_api(), post("/api/v1/nothing", "{}")).status, 404u);
  Request request = get("/");
  request.method = "DELETE";
  EXPECT_EQ(reply_to(make_api(), request).status, 405u);
  for (const char* body : {"", "[]", "{", "7", "null", R"({"op":"ls"})"}) {
    EXPECT_EQ(reply_to(make_api(), post("/api/v1/set", body)).status, 400u) << body;
  }
  request = post("/api/v1/set", "{}");
  request.content_type = "text/plain";  // what a page may send elsewhere without asking
  EXPECT_EQ(reply_to(make_api(), request).status, 415u);
}

TEST(Api, ThePageIsThere) {
  const Reply reply = reply_to(make_api(), get("/"));
  EXPECT_EQ(reply.status, 200u);
  EXPECT_THAT(*reply.body, HasSubstr("<title>Ballast</title>"));
  EXPECT_THAT(reply.type, HasSubstr("text/html"));
}

TEST(HistoryQuery, HasDefaultsAndBounds) {
  const auto plain = parse_history_query({}, kNow);
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->since, kNow - 3600 - (kNow - 3600) % plain->step);
  EXPECT_EQ(plain->until, kNow + 1);
  EXPECT_EQ(plain->step, 10u);

  const auto day = parse_history_query({{"since", "-999999999"}, {"vms", "all"}}, kNow);
  ASSERT_TRUE(day);
  EXPECT_TRUE(day->all_vms);
  EXPECT_GE(day->since + day->step, kNow - kHistorySeconds);
  EXPECT_EQ(day->step % kSampleSeconds, 0u);

  using Query = std::map<std::string, std::string>;
  for (const Query& wrong :
       {Query{{"since", "yesterday"}}, Query{{"since", "9999999999"}}, Query{{"step", "0"}},
        Query{{"step", "5"}}, Query{{"step", "99999999999999999999"}}, Query{{"vm", "../x"}},
        Query{{"vms", "some"}}, Query{{"until", "5"}}, Query{{"limit", "5"}},
        Query{{"since", "-86400"}, {"step", "10"}}}) {
    EXPECT_FALSE(parse_history_query(wrong, kNow)) << wrong.begin()->first << wrong.begin()->second;
  }
}

TEST(RateLimitTest, LetsSoManyThroughAtOnceAndThenSoManyPerSecond) {
  RateLimit limit(10, 5);
  Nanoseconds now = kSecond;
  int taken = 0;
  for (int i = 0; i < 20; ++i) taken += limit.take(now) ? 1 : 0;
  EXPECT_EQ(taken, 5);
  now += kSecond / 10;
  EXPECT_TRUE(limit.take(now));
  EXPECT_FALSE(limit.take(now));
  now += 100 * kSecond;
  taken = 0;
  for (int i = 0; i < 20; ++i) taken += limit.take(now) ? 1 : 0;
  EXPECT_EQ(taken, 5);
}

TEST(WebConfigTest, TakesNumericAddressesOnly) {
  WebConfig config;
  ASSERT_TRUE(parse_listen("0.0.0.0:80", config));
  EXPECT_EQ(config.port, 80);
  EXPECT_FALSE(is_loopback(config));
  ASSERT_TRUE(parse_listen("[::1]:81", config));
  EXPECT_TRUE(is_loopback(config));
  EXPECT_EQ(url_of(config, 81), "http://[::1]:81/");
  ASSERT_TRUE(parse_listen("127.0.0.1", config));
  EXPECT_EQ(config.port, 81);
  ASSERT_TRUE(parse_listen("off", config));
  EXPECT_FALSE(config.enable);
  for (const char* wrong : {"", "localhost:80", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000",
                            "[::1", "[::1]80", ":80", "1.2.3:80", "127.0.0.1:80 "}) {
    const Status status = parse_listen(wrong, config);
    ASSERT_FALSE(status) << wrong;
    EXPECT_THAT(status.error().message, HasSubstr("127.0.0.1:14631"));
  }
}

}  // namespace
}  // namespace ballast::web
