#include "simulator/fluid/balloon_driver.h"

#include <algorithm>

namespace ballast::simulator::fluid {

namespace {

constexpr Bytes kFreeRate = 64 * kMb;
constexpr Bytes kPressedRateMin = 2 * kMb;
constexpr Bytes kPressedRateMax = 8 * kMb;
constexpr Bytes kPressedRateGain = 64 * 1024;  // per second: 16 pages a period of one second
constexpr Bytes kDeflateRate = 512 * kMb;

}  // namespace

void BalloonDriver::run(Guest& guest, double now, double seconds) {
  const DriverPlan& driver = plan_.driver;
  if (driver.kind == DriverPlan::Kind::kNone) return;
  view_.link = machine::BalloonView::Link::kReady;
  const bool there = now >= plan_.boots_at + driver.shows_after;
  const bool deaf = now >= driver.deaf_from && now < driver.deaf_until;
  if (there && !deaf && driver.kind != DriverPlan::Kind::kLiar) {
    const Bytes size = guest.balloon();
    if (request_ > size) {
      const double pace = driver.kind == DriverPlan::Kind::kSlow ? 0.1 : 1;
      inflate(guest, std::min(request_, driver.stuck_at) - size, pace * seconds);
    } else {
      guest.take_back(std::min(size - request_, kDeflateRate * seconds));
    }
  }
  if (there) show(guest, now);
  if (!there) view_.actual_bytes = to_count(plan_.configured);
}

void BalloonDriver::inflate(Guest& guest, Bytes by, double seconds) {
  const Bytes most = std::min(by, kFreeRate * seconds);
  const Bytes got = guest.give_free(most);
  if (got >= most) {
    pressed_rate_ = kPressedRateMin;
    return;
  }
  pressed_rate_ =
      std::clamp(pressed_rate_ + kPressedRateGain * seconds, kPressedRateMin, kPressedRateMax);
  guest.give_pressed(std::min(most - got, pressed_rate_ * seconds));
}

void BalloonDriver::show(const Guest& guest, double now) {
  const bool lies = plan_.driver.kind == DriverPlan::Kind::kLiar;
  const Bytes size = lies ? std::min(request_, plan_.configured) : guest.balloon();
  view_.actual_bytes = to_count(plan_.configured - size);
  if (now - stats_at_ < stats_period_) return;
  stats_at_ = now;
  machine::GuestStats stats;
  stats.total_bytes = view_.actual_bytes;
  stats.free_bytes = lies ? view_.actual_bytes : to_count(guest.free_inside());
  stats.available_bytes = lies ? view_.actual_bytes : to_count(guest.free_inside() + guest.cache());
  stats.swap_in_bytes = to_count(guest.guest_swapped_in());
  stats.swap_out_bytes = to_count(guest.guest_swapped_out());
  stats.major_faults = 0;
  stats.at = static_cast<Nanoseconds>(now * static_cast<double>(kSecond));
  view_.stats = stats;
}

}  // namespace ballast::simulator::fluid
