#include "machine/linux/qmp_balloon.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace ballast::linux_machine {

namespace {

using machine::BalloonView;
using machine::GuestStats;
using nlohmann::json;

constexpr std::array<const char*, 2> kContainers = {"/machine/peripheral",
                                                    "/machine/peripheral-anon"};
// QEMU does not say when statistics came, to less than a second. We look this often for new ones,
// so that they are not taken for newer than they are by more than that part of a period.
constexpr uint32_t kLooksPerPeriod = 4;
constexpr Nanoseconds kNever = UINT64_MAX;
// After the size has changed it is taken for moving so long.
constexpr Nanoseconds kMoving = 5 * kSecond;
// QEMU sends at most one BALLOON_CHANGE a second and holds the next one back as long.
constexpr Nanoseconds kEventDelay = 2 * kSecond;

const json* member(const json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(name);
  return found == object.end() ? nullptr : &*found;
}

std::optional<uint64_t> number(const json& object, const char* name) {
  const json* const value = member(object, name);
  if (value == nullptr || !value->is_number_unsigned()) return std::nullopt;
  return value->get<uint64_t>();
}

// What the driver does not tell is 2^64 − 1 on the wire.
std::optional<uint64_t> statistic(const json& stats, const char* name) {
  const auto value = number(stats, name);
  return value == UINT64_MAX ? std::nullopt : value;
}

// The name of the balloon among a container's children; empty: not there; absent: no list at all.
std::optional<std::string> find_balloon(const json& children) {
  if (!children.is_array()) return std::nullopt;
  for (const json& child : children) {
    const json* const name = member(child, "name");
    const json* const type = member(child, "type");
    if (name == nullptr || type == nullptr || !name->is_string() || !type->is_string()) {
      return std::nullopt;
    }
    if (type->get_ref<const std::string&>().starts_with("child<virtio-balloon")) {
      return name->get<std::string>();
    }
  }
  return std::string{};
}

}  // namespace

// ---- the loop

void QmpBalloon::handle(Nanoseconds now) {
  now_ = now;
  client_.handle(now);
}

void QmpBalloon::tick(Nanoseconds now) {
  now_ = now;
  client_.tick(now);
  if (client_.can_execute() && now >= question_at()) ask();
}

Nanoseconds QmpBalloon::wake_at() const {
  const Nanoseconds question = client_.can_execute() ? question_at() : kNever;
  return std::min(client_.wake_at(), question);
}

BalloonView QmpBalloon::view() const {
  BalloonView view = view_;
  if (absent_) {
    view.link = BalloonView::Link::kNone;
  } else if (settled()) {
    view.link = BalloonView::Link::kReady;
  } else if (!view.problem.empty()) {
    view.link = BalloonView::Link::kUnreachable;
  } else {
    view.link = BalloonView::Link::kConnecting;
  }
  if (view.link != BalloonView::Link::kUnreachable) view.problem.clear();
  return view;
}

void QmpBalloon::on_ready() { search_at_ = now_; }

void QmpBalloon::on_failure() {
  view_.problem = client_.problem();
  absent_ = false;
  forget_device();
}

void QmpBalloon::forget_device() {
  device_.clear();
  searched_ = 0;
  has_status_ = false;
  has_size_ = false;
  sent_wish_.reset();
  sent_period_.reset();
  stale_.reset();
}

void QmpBalloon::on_event(const std::string& name, const json& data) {
  if (name == "RESUME" || name == "WAKEUP") {
    view_.vm_runs = true;
  } else if (name == "STOP" || name == "SUSPEND" || name == "SHUTDOWN") {
    view_.vm_runs = false;
  } else if (name == "RESET") {
    take_reset();
  } else if (name == "BALLOON_CHANGE" && has_size_) {
    const auto actual = number(data, "actual");
    if (!actual) return;
    // An event may come a second late: then it speaks of the balloon before the reset.
    if (now_ - reset_at_ > kEventDelay) stale_.reset();
    take_size(*actual);
  }
}

// ---- asking

Nanoseconds QmpBalloon::question_at() const {
  if (device_.empty()) return search_at_;
  if (!settled() || (wish_ && wish_ != sent_wish_) || (period_ && period_ != sent_period_)) {
    return 0;
  }
  return period_.value_or(0) == 0 ? size_at_ : std::min(size_at_, stats_at_);
}

void QmpBalloon::ask() {
  if (device_.empty()) return search();
  if (!has_status_) return ask_status();
  if (wish_ && wish_ != sent_wish_) return send_wish();
  if (period_ && period_ != sent_period_) return send_period();
  if (!has_size_ || now_ >= size_at_) return ask_size();
  ask_stats();
}

void QmpBalloon::search() {
  const char* const container = kContainers.at(searched_);
  client_.execute("qom-list", {{"path", container}}, [this, container](const QmpReply& reply) {
    const auto name = reply.ok() ? find_balloon(reply.value) : std::nullopt;
    if (!name) return reject("qom-list", reply);
    if (!name->empty()) {
      device_ = fmt::format("{}/{}", container, *name);
    } else if (++searched_ == kContainers.size()) {
      searched_ = 0;
      absent_ = true;
      search_at_ = now_ + kSearchPeriod;
    }
  });
}

void QmpBalloon::ask_status() {
  client_.execute("query-status", {}, [this](const QmpReply& reply) {
    const json* const running = member(reply.value, "running");
    if (running == nullptr || !running->is_boolean()) return reject("query-status", reply);
    view_.vm_runs = running->get<bool>();
    has_status_ = true;
  });
}

void QmpBalloon::reject(const char* question, const QmpReply& reply) {
  client_.hang_up(fmt::format(
      "{}: {}", question,
      reply.ok() ? "an answer that makes no sense; is it QEMU's monitor?" : reply.error));
}

// KVM cannot, or the device was unplugged.
bool QmpBalloon::no_balloon(const QmpReply& reply) {
  if (reply.error_class != "DeviceNotActive" && reply.error_class != "KVMMissingCap") return false;
  forget_device();
  absent_ = true;
  search_at_ = now_ + kSearchPeriod;
  return true;
}

void QmpBalloon::send_wish() {
  // As sent, whatever QEMU answers: what it refuses now it would refuse in the next second too.
  sent_wish_ = wish_;
  size_at_ = std::min(size_at_, now_ + kSizePeriodBusy);
  client_.execute("balloon", {{"value", *wish_}},
                  [this](const QmpReply& reply) { (void)no_balloon(reply); });
}

// A shorter period is for somebody who wants to know soon: QEMU asks the driver at once when
// polling begins, not when the period changes.
void QmpBalloon::send_period() {
  const uint32_t never = 0;
  sent_period_ = sent_period_.value_or(~never) > *period_ ? never : *period_;
  stats_at_ = now_ + kSecond / kLooksPerPeriod;
  client_.execute(
      "qom-set",
      {{"path", device_}, {"property", "guest-stats-polling-interval"}, {"value", *sent_period_}},
      [](const QmpReply&) {});
}

void QmpBalloon::ask_size() {
  client_.execute("query-balloon", {}, [this](const QmpReply& reply) {
    if (no_balloon(reply)) return;
    const auto actual = number(reply.value, "actual");
    if (!actual) return reject("query-balloon", reply);
    absent_ = false;
    has_size_ = true;
    take_size(*actual);
    view_.problem.clear();
  });
}

void QmpBalloon::ask_stats() {
  stats_at_ = now_ + period_.value_or(1) * kSecond / kLooksPerPeriod;
  client_.execute("qom-get", {{"path", device_}, {"property", "guest-stats"}},
                  [this](const QmpReply& reply) {
                    if (reply.ok()) take_stats(reply);
                  });
}

// ---- answers

// The next system starts with an empty balloon and without statistics. QEMU goes on showing the
// last one's until a driver tells another size, for ever if that driver has nothing to do.
void QmpBalloon::take_reset() {
  ++view_.resets;
  view_.stats.reset();
  if (!has_size_) return;
  reset_at_ = now_;
  if (!stale_) stale_ = view_.actual_bytes;
  set_size(configured_bytes_);
}

void QmpBalloon::take_size(uint64_t actual) {
  if (stale_ == actual) return set_size(configured_bytes_);
  stale_.reset();
  set_size(actual);
}

void QmpBalloon::set_size(uint64_t actual) {
  if (actual != view_.actual_bytes) moved_at_ = now_;
  view_.actual_bytes = actual;
  const bool busy = now_ - moved_at_ < kMoving || (sent_wish_ && actual != *sent_wish_);
  size_at_ = now_ + (busy ? kSizePeriodBusy : kSizePeriodIdle);
}

void QmpBalloon::take_stats(const QmpReply& reply) {
  const auto last_update = number(reply.value, "last-update");
  const json* const stats = member(reply.value, "stats");
  if (!last_update || stats == nullptr || !stats->is_object()) return reject("guest-stats", reply);
  if (*last_update == 0 || *last_update == last_update_) return;
  last_update_ = *last_update;
  view_.stats = GuestStats{.total_bytes = statistic(*stats, "stat-total-memory"),
                           .free_bytes = statistic(*stats, "stat-free-memory"),
                           .available_bytes = statistic(*stats, "stat-available-memory"),
                           .swap_in_bytes = statistic(*stats, "stat-swap-in"),
                           .swap_out_bytes = statistic(*stats, "stat-swap-out"),
                           .major_faults = statistic(*stats, "stat-major-faults"),
                           .at = now_};
}

}  // namespace ballast::linux_machine
