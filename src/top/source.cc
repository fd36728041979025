#include "top/source.h"

#include "proto/client.h"
#include "proto/report_json.h"

namespace ballast::top {

namespace {

using nlohmann::json;

// Keys wait meanwhile; a daemon that is alive answers within milliseconds.
constexpr std::chrono::milliseconds kPatience{1000};
constexpr size_t kEventsKept = 5;  // of one VM
constexpr int kPortionsMax = 20;   // a daemon that always has more is not followed for ever

}  // namespace

Status HostReader::update(std::optional<cli::Observation>& observation,
                          const std::string& run_dir) {
  const bool was_away = std::exchange(was_away_, true);
  BALLAST_TRY(const json reply, proto::call(run_dir, {{"op", "host"}}, kPatience));
  BALLAST_TRY(HostReport now, proto::host_report_from_json(reply.value("host", json::object())));
  was_away_ = false;
  std::optional<HostReport> before;
  if (observation && !was_away) before = std::move(observation->now);
  observation = cli::Observation{.now = std::move(now), .before = std::move(before)};
  return Done{};
}

Status EventReader::update(View& view, const std::string& run_dir) {
  std::erase_if(view.events, [&](const auto& one) { return !view.expanded.contains(one.first); });
  // The events of a VM that was expanded just now may be old ones.
  for (const std::string& name : view.expanded) {
    if (view.events.try_emplace(name).second) since_ = 0;
  }
  if (view.expanded.empty()) return Done{};
  if (since_ == 0) {
    for (auto& [name, events] : view.events) events.clear();
  }
  for (int portion = 0; portion < kPortionsMax; ++portion) {
    BALLAST_TRY(const json reply,
                proto::call(run_dir, {{"op", "events"}, {"since", since_}}, kPatience));
    const json list = reply.value("events", json::array());
    const json last = reply.value("last", json(0u));
    if (!list.is_array() || !last.is_number_unsigned()) {
      return Error{"the daemon's list of events makes no sense"};
    }
    if (last.get<uint64_t>() < since_) {  // a new daemon counts from the start
      since_ = 0;
      continue;
    }
    for (const json& element : list) {
      BALLAST_TRY(Event event, proto::event_from_json(element));
      since_ = event.sequence;
      const auto found = view.events.find(event.vm);
      if (found == view.events.end()) continue;
      found->second.push_back(std::move(event));
      if (found->second.size() > kEventsKept) found->second.erase(found->second.begin());
    }
    if (list.empty() || since_ >= last.get<uint64_t>()) break;
  }
  return Done{};
}

}  // namespace ballast::top
