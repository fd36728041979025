// Api: what each path means. Decides, without waiting, how a request is to be answered; the server
// does the waiting.
//
//   GET  /                             the dashboard
//   GET  /metrics                      Prometheus
//   GET  /api/v1/{version,host,vms,vms/NAME,vms/NAME/why,events,events/stream,history,options}
//   POST /api/v1/whatif                asks only
//   POST /api/v1/{set,options,resume,reclaim,reserve,unreserve}    change, and need the token
//
// Answers have the shape of the control socket's (proto/control.h), and for all that is not in a
// snapshot they are its answers. Web thread only; nothing here blocks or throws.
#pragma once

#include <functional>
#include <memory>
#include <variant>

#include "proto/control.h"
#include "web/desk.h"
#include "web/gate.h"
#include "web/history_db.h"
#include "web/http.h"

namespace ballast::web {

// A snapshot with its texts, each made when it is first asked for.
class View {
 public:
  View(std::shared_ptr<const Snapshot> snapshot, std::string version)
      : snapshot_(std::move(snapshot)), version_(std::move(version)) {}
  const Snapshot& snapshot() const { return *snapshot_; }
  const std::shared_ptr<const std::string>& host_json();
  const std::shared_ptr<const std::string>& metrics();

 private:
  const std::shared_ptr<const Snapshot> snapshot_;
  const std::string version_;
  std::shared_ptr<const std::string> host_json_;
  std::shared_ptr<const std::string> metrics_;
};

// How a request is to be answered: at once, or with what has to be fetched.
struct FromSnapshot {
  std::function<Reply(View&)> make;
};
struct FromDaemon {
  nlohmann::json request;  // for proto::answer()
};
struct FromHistory {
  HistoryQuery query;
};
struct EventStream {
  uint64_t since = 0;
};
using Plan = std::variant<Reply, FromSnapshot, FromDaemon, FromHistory, EventStream>;

class Api {
 public:
  // `events`: version, events and last_event, callable from the web thread.
  Api(Gate gate, proto::ControlService events, bool has_history)
      : gate_(std::move(gate)), events_(std::move(events)), has_history_(has_history) {}

  Plan plan(const Request& request, uint64_t unix_seconds) const;
  const proto::ControlService& events() const { return events_; }

 private:
  Plan plan_get(const Request& request, uint64_t unix_seconds) const;
  Plan plan_post(const Request& request) const;
  Plan plan_vm(std::string_view rest) const;
  Plan plan_why(const std::string& name) const;
  Plan plan_events(const Request& request) const;
  Plan plan_stream(const Request& request) const;
  Plan plan_history(const Request& request, uint64_t unix_seconds) const;

  const Gate gate_;
  const proto::ControlService events_;
  const bool has_history_;
};

// A whole number from 0, as it stands in a query or a header.
Result<uint64_t> parse_number(std::string_view name, std::string_view text);
// since, until (Unix seconds; negative: so long ago), step, vm=NAME or vms=all.
Result<HistoryQuery> parse_history_query(const std::map<std::string, std::string>& query,
                                         uint64_t unix_seconds);

}  // namespace ballast::web
