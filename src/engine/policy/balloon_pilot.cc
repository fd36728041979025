#include "engine/policy/balloon_pilot.h"

#include <algorithm>

#include "base/check.h"

namespace ballast::engine {
namespace {

constexpr uint64_t kMb = uint64_t{1} << 20;

constexpr double kFirstRate = 64.0 * kMb;  // bytes per second: what a Linux driver does at ease
constexpr uint64_t kMinStep = 4 * kMb;
constexpr uint64_t kMaxStep = 256 * kMb;
constexpr uint64_t kWorthAsking = 2 * kMb;  // unless it is all that is wanted
constexpr uint64_t kProgress = 1 * kMb;     // less is noise
constexpr uint64_t kRoomAgain = 16 * kMb;  // given back since it was stuck: it can have these again
constexpr uint64_t kMinGiveBack = 8 * kMb;
constexpr uint64_t kMinFloor = 16 * kMb;
constexpr uint64_t kSwappingPagesPerSecond = 200;
constexpr int kSwappingReports = 3;

constexpr Nanoseconds kBetweenRaises = kSecond / 2;
constexpr Nanoseconds kFresh = 30 * kSecond;
constexpr Nanoseconds kLatency = 3 * kSecond;    // of a guest that is told to stop shrinking
constexpr Nanoseconds kForesight = 2 * kSecond;  // a balloon's step, and the report after it
// A driver that tells anything has told it by then. A daemon that dies and comes back knows nothing
// of what the guest could not spare a moment ago.
constexpr Nanoseconds kHearing = 3 * kSecond;
constexpr Nanoseconds kMinBackOff = 30 * kSecond;
constexpr Nanoseconds kMaxBackOff = 300 * kSecond;

uint64_t whole_pages(uint64_t bytes) { return bytes / kPageBytes * kPageBytes; }
uint64_t minus(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }
double seconds(Nanoseconds time) {
  return static_cast<double>(time) / static_cast<double>(kSecond);
}
Nanoseconds longer(Nanoseconds back_off) {
  return std::clamp(2 * back_off, kMinBackOff, kMaxBackOff);
}

// What the guest says it could give up, if it can be true.
std::optional<uint64_t> plausible_available(const machine::GuestStats& stats,
                                            uint64_t configured_bytes) {
  if (!stats.available_bytes || *stats.available_bytes > configured_bytes) return std::nullopt;
  const uint64_t total = stats.total_bytes.value_or(0);
  const bool total_is_plausible = total > 0 && total <= configured_bytes;
  if (total_is_plausible && *stats.available_bytes > total) return std::nullopt;
  return stats.available_bytes;
}

// Of a counter since boot; 0 when there is none, or when it ran backwards.
uint64_t growth(const std::optional<uint64_t>& before, const std::optional<uint64_t>& now) {
  return before && now ? minus(*now, *before) : 0;
}

}  // namespace

std::string_view name_of(BalloonCondition condition) {
  switch (condition) {
    case BalloonCondition::kNone:
      return "none";
    case BalloonCondition::kUnreachable:
      return "unreachable";
    case BalloonCondition::kNoDriver:
      return "no-driver";
    case BalloonCondition::kPaused:
      return "paused";
    case BalloonCondition::kIdle:
      return "idle";
    case BalloonCondition::kInflating:
      return "inflating";
    case BalloonCondition::kDeflating:
      return "deflating";
    case BalloonCondition::kStuck:
      return "stuck";
    case BalloonCondition::kSpared:
      return "spared";
    case BalloonCondition::kFull:
      return "full";
    case BalloonCondition::kForeign:
      return "foreign";
  }
  BALLAST_CHECK(false);
}

BalloonPlan BalloonPilot::fly(const machine::BalloonView& view, Nanoseconds now, const Wish& wish) {
  using Link = machine::BalloonView::Link;
  if (view.link == Link::kNone) *this = BalloonPilot();
  plan_.deliverable_bytes = 0;
  if (view.link != Link::kReady) {
    last_call_.reset();
    if (view.link != Link::kNone) plan_.condition = BalloonCondition::kUnreachable;
    return plan_;
  }
  if (!known_ || view.resets != resets_) begin(view, wish);

  const uint64_t max = std::min(wish.max_bytes, wish.configured_bytes);
  Sight sight{.size = size_of(view, wish.configured_bytes),
              .target = whole_pages(std::min(wish.wanted_bytes, max)),
              .max = whole_pages(max),
              .floor = std::max(kMinFloor, wish.configured_bytes / 20),
              .ceiling = std::nullopt,
              .grow = wish.grow};
  plan_.size_bytes = sight.size;
  if (!view.vm_runs) {
    last_call_.reset();
    plan_.condition =
        sight.max == 0 && sight.size == 0 ? BalloonCondition::kNone : BalloonCondition::kPaused;
    return plan_;
  }
  const Nanoseconds elapsed = last_call_ ? minus(now, *last_call_) : 0;
  clock_ += elapsed;
  last_call_ = now;

  const bool was_foreign = foreign_;
  if (is_foreign(sight)) {
    request_ = std::min(request_, sight.max);
    plan_.request_bytes = request_;
    plan_.condition = BalloonCondition::kForeign;
    return plan_;
  }
  if (was_foreign) return_from_foreign(sight);

  const int64_t more = held_more(sight.size, wish.held_bytes, elapsed);
  watch(sight, elapsed);
  const bool new_report = read_report(view, sight.size, wish.configured_bytes);
  find_ceiling(sight, now, more);
  if (const auto lack = lacking(sight, new_report)) spare(sight, *lack);
  if (heading_ > 0 && clock_ - moved_at_ >= kStuckAfter) give_up(sight);
  steer(sight);

  const int heading = (request_ > sight.size) - (request_ < sight.size);
  if (heading == 0 || heading != heading_) {
    mark_ = sight.size;
    moved_at_ = clock_;
  }
  heading_ = heading;
  if (heading < 0) calm_at_ = clock_ + kLatency;
  note_request();
  plan_.request_bytes = request_;
  plan_.rate = rate_;
  plan_.condition = judge(sight);
  plan_.deliverable_bytes = deliverable(sight);
  return plan_;
}

// The first sight of a working device, or a guest that has booted anew.
void BalloonPilot::begin(const machine::BalloonView& view, const Wish& wish) {
  BalloonPilot fresh;
  fresh.known_ = true;
  fresh.resets_ = view.resets;
  fresh.clock_ = fresh.moved_at_ = clock_;
  fresh.may_raise_at_ = may_raise_at_;
  fresh.rate_ = kFirstRate;
  if (known_) {
    fresh.stale_actual_ = view.actual_bytes;
    if (view.stats) fresh.report_ = Report{.at = view.stats->at};  // of the time before
  }
  const uint64_t size = fresh.size_of(view, wish.configured_bytes);
  fresh.driver_seen_ = size > 0;
  fresh.request_ = fresh.last_size_ = fresh.mark_ = fresh.held_ = size;
  // What is in the balloon already may be on its way to what another daemon asked for.
  fresh.asked_most_ = fresh.explained_ = size == 0 ? 0 : wish.configured_bytes;
  fresh.guest_held_ = wish.held_bytes;
  fresh.asked_until_ = fresh.clock_ + kLatency;
  fresh.heard_by_ = known_ ? heard_by_ : fresh.clock_ + kHearing;
  fresh.plan_.size_bytes = fresh.plan_.request_bytes = size;
  fresh.plan_.rate = kFirstRate;
  *this = fresh;
}

uint64_t BalloonPilot::size_of(const machine::BalloonView& view, uint64_t configured_bytes) {
  if (stale_actual_ && *stale_actual_ == view.actual_bytes) return 0;
  stale_actual_.reset();
  return whole_pages(minus(configured_bytes, view.actual_bytes));
}

// Whether the guest has told something new.
bool BalloonPilot::read_report(const machine::BalloonView& view, uint64_t size,
                               uint64_t configured_bytes) {
  if (!view.stats || (report_ && report_->at == view.stats->at)) return false;
  const machine::GuestStats& stats = *view.stats;
  if (report_) {
    const uint64_t pages =
        std::max(growth(report_->swap_in_bytes, stats.swap_in_bytes) / kPageBytes,
                 growth(report_->major_faults, stats.major_faults));
    const double most = kSwappingPagesPerSecond * seconds(minus(stats.at, report_->at));
    const bool swapping = size > 0 && most > 0 && static_cast<double>(pages) > most;
    swapping_reports_ = swapping ? swapping_reports_ + 1 : 0;
  }
  report_ = Report{.at = stats.at,
                   .size = size,
                   .available = plausible_available(stats, configured_bytes),
                   .swap_in_bytes = stats.swap_in_bytes,
                   .major_faults = stats.major_faults};
  if (!driver_seen_) {
    driver_seen_ = true;
    stuck_ = false;
  }
  return true;
}

// What the guest has taken into use since the last call, in bytes; less than 0 when it gave up more
// than its balloon took.
int64_t BalloonPilot::held_more(uint64_t size, uint64_t held, Nanoseconds elapsed) {
  const auto more = static_cast<int64_t>(held) - static_cast<int64_t>(guest_held_);
  guest_held_ = held;
  const auto ballooned = static_cast<int64_t>(minus(size, last_size_));
  const int64_t taken = more < 0 ? std::min<int64_t>(more + ballooned, 0) : more;
  const double time = seconds(elapsed);
  if (time > 0) taking_ += (static_cast<double>(taken) / time - taking_) * time / (time + 1);
  return taken;
}

// How far the balloon may go by what the guest told, and took since.
void BalloonPilot::find_ceiling(Sight& sight, Nanoseconds now, int64_t more) {
  if (!report_) return;
  // For a new report, too: it may be older than all of that.
  report_->taken = std::max<int64_t>(report_->taken + more, 0);
  if (!report_->available || report_->at > now || now - report_->at > kFresh) return;
  const uint64_t gone = static_cast<uint64_t>(report_->taken) + will_take();
  const uint64_t left = minus(*report_->available, gone);
  sight.ceiling = whole_pages(minus(report_->size + left, sight.floor));
  sight.told_ceiling = whole_pages(minus(report_->size + *report_->available, sight.floor));
}

// What it will have taken by the time the balloon has grown and the guest has told what came of it.
uint64_t BalloonPilot::will_take() const {
  return static_cast<uint64_t>(std::max(taking_, 0.0) * seconds(kForesight));
}

// Whether the balloon's size is somebody else's doing: it grew beyond all that we asked for lately,
// and has not come back to what we asked for.
bool BalloonPilot::is_foreign(const Sight& sight) {
  if (foreign_) {
    foreign_ = sight.size >= request_ + kProgress;
    return foreign_;
  }
  if (clock_ >= asked_until_) asked_most_ = request_;
  explained_ = std::max(asked_most_, std::min(explained_, sight.size));
  foreign_ = sight.size >= explained_ + kProgress;
  return foreign_;
}

void BalloonPilot::return_from_foreign(const Sight& sight) {
  request_ = std::min(request_, sight.size);
  last_size_ = mark_ = held_ = explained_ = sight.size;
  heading_ = 0;
  moved_at_ = clock_;
  stuck_ = false;
  stuck_size_ = 0;
}

void BalloonPilot::note_request() {
  if (request_ < asked_most_ && clock_ < asked_until_) return;
  asked_most_ = request_;
  asked_until_ = clock_ + kLatency;
}

// What has moved since the last call.
void BalloonPilot::watch(const Sight& sight, Nanoseconds elapsed) {
  const uint64_t size = sight.size;
  const bool grew = heading_ >= 0 && (size >= mark_ + kProgress ||
                                      (heading_ > 0 && size > mark_ && size >= request_));
  const bool shrank =
      heading_ < 0 && (size + kProgress <= mark_ || (size < mark_ && size <= request_));
  if (grew || shrank) {
    driver_seen_ = true;
    mark_ = size;
    moved_at_ = clock_;
  }
  if (grew) {
    stuck_ = false;
    retry_after_ = 0;
  }
  if (size + kRoomAgain <= stuck_size_) stuck_ = false;
  held_ = heading_ < 0 || clock_ < calm_at_ ? size : std::max(held_, size);
  measure(sight, elapsed);
  last_size_ = size;
}

// The rate at which the guest gives memory, from the times when it was asked for some.
void BalloonPilot::measure(const Sight& sight, Nanoseconds elapsed) {
  if (!driver_seen_ || last_size_ >= request_ || elapsed == 0) return;
  eager_ = sight.size >= request_;
  const double sample = static_cast<double>(minus(sight.size, last_size_)) / seconds(elapsed);
  if (eager_ && sample < rate_) return;  // it may have waited for us
  rate_ += (sample - rate_) * seconds(elapsed) / (seconds(elapsed) + 1);
}

// Over-asked: what the guest needs back; absent when it has enough.
std::optional<uint64_t> BalloonPilot::lacking(const Sight& sight, bool new_report) {
  if (sight.size == 0) given_back_ = 0;
  if (heading_ < 0 || sight.size == 0) return std::nullopt;
  if (sight.size + kProgress <= held_) return 0;  // it has taken it already
  if (!new_report) return std::nullopt;
  const bool low = sight.ceiling && *report_->available < sight.floor / 2;
  if (!low) given_back_ = 0;
  if (!low && swapping_reports_ < kSwappingReports) return std::nullopt;
  const uint64_t available = sight.ceiling ? *report_->available : sight.floor;
  const uint64_t lack = std::max(kMinGiveBack, minus(sight.floor, available));
  // How much is missing nobody can tell when what it was given is gone already.
  if (low) given_back_ = std::max(lack, 2 * given_back_);
  return low ? given_back_ : lack;
}

void BalloonPilot::spare(const Sight& sight, uint64_t lack) {
  request_ = std::min(request_, whole_pages(minus(sight.size, lack)));
  if (!spared()) {
    const bool again = spare_after_ > 0 && clock_ < spare_until_ + kMaxBackOff;
    spare_after_ = again ? longer(spare_after_) : kMinBackOff;
  }
  spare_until_ = clock_ + spare_after_;
  swapping_reports_ = 0;
  held_ = sight.size;
}

// Nothing has moved for long: asks no more for a while.
void BalloonPilot::give_up(const Sight& sight) {
  request_ = sight.size;
  stuck_ = true;
  stuck_size_ = sight.size;
  retry_after_ = driver_seen_ ? longer(retry_after_) : kMinBackOff;
  retry_at_ = clock_ + retry_after_;
}

// Where the request goes.
void BalloonPilot::steer(const Sight& sight) {
  if (sight.target < sight.size) {
    const bool giving_back = spared() && request_ < sight.target;
    if (request_ > sight.target) request_ = sight.target;
    if (!giving_back) raise_to(sight.target);
    return;
  }
  if (spared() || !sight.grow || (stuck_ && clock_ < retry_at_)) {
    request_ = std::min(request_, sight.size);
    if (!spared()) raise_to(sight.size);
    return;
  }
  const uint64_t most = std::clamp(sight.ceiling.value_or(sight.target), sight.size, sight.target);
  request_ = std::min(request_, most);
  if (!sight.ceiling && clock_ < heard_by_) return;
  const uint64_t limit = std::min(most, sight.size + step(sight));
  const bool worth_it = limit == sight.target || limit >= request_ + kWorthAsking;
  if (worth_it) raise_to(limit);
}

void BalloonPilot::raise_to(uint64_t bytes) {
  if (bytes <= request_ || clock_ < may_raise_at_) return;
  request_ = bytes;
  may_raise_at_ = clock_ + kBetweenRaises;
}

// What the guest can deliver within a second; carefully where it does not tell how it is.
uint64_t BalloonPilot::step(const Sight& sight) const {
  const double wish = rate_ * (eager_ ? 2 : 1) / (sight.ceiling ? 1 : 4);
  const double bounded =
      std::clamp(wish, static_cast<double>(kMinStep), static_cast<double>(kMaxStep));
  return whole_pages(static_cast<uint64_t>(bounded));
}

BalloonCondition BalloonPilot::judge(const Sight& sight) const {
  if (sight.max == 0 && sight.size == 0) return BalloonCondition::kNone;
  if (stuck_ && !driver_seen_) return BalloonCondition::kNoDriver;
  if (spared() && request_ < sight.target) return BalloonCondition::kSpared;
  if (request_ < sight.size) {
    if (clock_ - moved_at_ < kStuckAfter) return BalloonCondition::kDeflating;
    return driver_seen_ ? BalloonCondition::kStuck : BalloonCondition::kNoDriver;
  }
  if (sight.target <= sight.size) {
    return sight.size >= sight.max ? BalloonCondition::kFull : BalloonCondition::kIdle;
  }
  if (stuck_) return BalloonCondition::kStuck;
  if (!sight.grow) return BalloonCondition::kIdle;
  const bool has_room =
      !sight.ceiling || sight.told_ceiling >= std::min(sight.size + kWorthAsking, sight.target);
  return request_ > sight.size || has_room ? BalloonCondition::kInflating
                                           : BalloonCondition::kSpared;
}

uint64_t BalloonPilot::deliverable(const Sight& sight) const {
  const BalloonCondition condition = plan_.condition;
  if (!driver_seen_ || stuck_ || spared() || condition == BalloonCondition::kStuck ||
      condition == BalloonCondition::kSpared) {
    return 0;
  }
  // Much of what it takes may be page cache, which it can give up again: only what it tells next
  // shows that, and paging would not wait for it.
  const uint64_t most = sight.ceiling ? std::min(sight.max, sight.told_ceiling) : sight.max;
  return minus(most, sight.size);
}

}  // namespace ballast::engine
