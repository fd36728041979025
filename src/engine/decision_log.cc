#include "engine/decision_log.h"

#include <fmt/format.h>

#include <utility>

#include "base/units.h"

namespace ballast::engine {

namespace {

using machine::Severity;

// Targets move a little all the time; this much is a decision.
constexpr uint64_t kTargetChangeMin = uint64_t{8} << 20;
constexpr Nanoseconds kTargetQuiet = 15 * kSecond;
constexpr Nanoseconds kPagingEndsAfter = 15 * kSecond;
constexpr Nanoseconds kStateLasts = 5 * kSecond;
// QEMU's monitor answers some time after its memory was handed over.
constexpr Nanoseconds kUnreachableLasts = 10 * kSecond;
// Until a balloon that somebody else moves is where he wants it.
constexpr Nanoseconds kForeignLasts = 3 * kSecond;

std::string_view consequence_of(HostState state) {
  switch (state) {
    case HostState::kHigh:
    case HostState::kClear:
      return "nothing is taken from VMs";
    case HostState::kSoft:
      return "balloons grow; VMs that cannot be ballooned are compressed and swapped";
    case HostState::kHard:
      return "VMs above their targets are compressed and swapped";
    case HostState::kLow:
      return "VMs above their targets are paged, and wait at their next fault";
  }
  return "";
}

}  // namespace

void DecisionLog::state(HostState state, uint64_t free_bytes, const Thresholds& thresholds,
                        Nanoseconds now) {
  if (state != state_) state_since_ = now;
  state_ = state;
  const bool worse = state > told_state_;
  if (state == told_state_ || (!worse && now - state_since_ < kStateLasts)) return;
  const uint64_t line =
      worse ? thresholds.enter_of(state)
            : thresholds.leave_of(static_cast<HostState>(static_cast<int>(state) + 1));
  sink_(worse && state >= HostState::kHard ? Severity::kWarning : Severity::kInfo, "", "host.state",
        fmt::format("from {} to {}: {} free, {} the line of {}: {}", name_of(told_state_),
                    name_of(state), format_size(free_bytes), worse ? "fell below" : "rose to",
                    format_size(line), consequence_of(state)));
  told_state_ = state;
}

void DecisionLog::vm(const VmReport& report, const VmDecision& decision, Nanoseconds now) {
  Told& told = vms_[report.spec.name];
  if (!told.known) {
    told.known = true;
    told.target_bytes = report.target_bytes;
    told.zips = report.zips;
    told.swap_outs = report.swap_outs;
  }
  target(report, told, now);
  balloon(report, decision, told, now);
  paging(report, told, now);
  if (report.blocked != told.blocked) {
    told.blocked = report.blocked;
    if (told.blocked) {
      sink_(Severity::kWarning, report.spec.name, "vm.blocked",
            fmt::format("waits at its next fault: it consumes {} and its target is {}, and memory "
                        "is low",
                        format_size(report.consumed_bytes), format_size(report.target_bytes)));
    } else {
      sink_(Severity::kInfo, report.spec.name, "vm.unblocked", "may take memory again");
    }
  }
}

void DecisionLog::target(const VmReport& report, Told& told, Nanoseconds now) {
  const uint64_t was = told.target_bytes;
  const uint64_t is = report.target_bytes;
  const uint64_t change = is > was ? is - was : was - is;
  const bool takes = is < report.consumed_bytes || was < report.consumed_bytes;
  if (report.bound == name_of(Bound::kWant) && is > was) {  // it grows as it likes
    told.target_bytes = is;
    return;
  }
  if (change < kTargetChangeMin || change < was / 20 || !takes) return;
  if (told.target_at != 0 && now - told.target_at < kTargetQuiet) return;
  told.target_bytes = is;
  told.target_at = now;
  sink_(Severity::kInfo, report.spec.name, "vm.target",
        fmt::format("target from {} to {}, decided by its {}; consumes {}, active {} +- {}",
                    format_size(was), format_size(is), report.bound,
                    format_size(report.consumed_bytes), format_size(report.active_bytes),
                    format_size(report.active_error_bytes)));
}

void DecisionLog::balloon(const VmReport& report, const VmDecision& decision, Told& told,
                          Nanoseconds now) {
  const BalloonCondition is = decision.balloon.condition;
  if (is != told.seen) told.seen_since = now;
  told.seen = is;
  if (is == told.condition) return;
  if (is == BalloonCondition::kUnreachable && now - told.seen_since < kUnreachableLasts) return;
  if (is == BalloonCondition::kForeign && now - told.seen_since < kForeignLasts) return;
  const bool was_foreign = std::exchange(told.condition, is) == BalloonCondition::kForeign;
  const auto tell = [&](Severity severity, std::string text) {
    sink_(severity, report.spec.name, "balloon." + std::string(name_of(is)), std::move(text));
  };
  const std::string size = format_size(decision.balloon.size_bytes);
  if (was_foreign) {
    tell(Severity::kInfo,
         fmt::format("what somebody else asked of the balloon is given back: it has {}", size));
  }
  switch (is) {
    case BalloonCondition::kInflating:
      if (!told.ballooning) {
        tell(Severity::kInfo, fmt::format("ballooning begins: {} now, up to {} wanted", size,
                                          format_size(report.balloon_target_bytes)));
      }
      told.ballooning = true;
      return;
    case BalloonCondition::kDeflating:
      tell(Severity::kInfo, fmt::format("the balloon shrinks from {} to {}", size,
                                        format_size(decision.balloon.request_bytes)));
      told.ballooning = false;
      return;
    case BalloonCondition::kIdle:
      if (told.ballooning) tell(Severity::kInfo, fmt::format("the balloon has reached {}", size));
      told.ballooning = false;
      return;
    case BalloonCondition::kStuck:
      tell(Severity::kWarning,
           fmt::format("the balloon is stuck at {}: the guest does not give more; compression and "
                       "swap take the rest",
                       size));
      return;
    case BalloonCondition::kSpared:
      tell(Severity::kInfo,
           fmt::format("the guest cannot spare what it was asked for: the balloon goes back to {}",
                       format_size(decision.balloon.request_bytes)));
      return;
    case BalloonCondition::kForeign:
      tell(Severity::kInfo,
           fmt::format("somebody else has set the balloon to {} (virsh setmem, another monitor): "
                       "it is left so until that is given back",
                       size));
      return;
    case BalloonCondition::kUnreachable:
      tell(Severity::kWarning, "QEMU's monitor does not answer: the VM cannot be ballooned");
      return;
    case BalloonCondition::kNone:
    case BalloonCondition::kNoDriver:
    case BalloonCondition::kPaused:
    case BalloonCondition::kFull:
      return;
  }
}

void DecisionLog::paging(const VmReport& report, Told& told, Nanoseconds now) {
  if (report.zips != told.zips || report.swap_outs != told.swap_outs) {
    if (told.paging_since == 0) {
      told.paging_since = now;
      told.zips_before = told.zips;
      told.swap_outs_before = told.swap_outs;
      sink_(Severity::kInfo, report.spec.name, "paging.started",
            fmt::format("is compressed and swapped: it consumes {}, its target is {}",
                        format_size(report.consumed_bytes), format_size(report.target_bytes)));
    }
    told.paged_at = now;
  }
  told.zips = report.zips;
  told.swap_outs = report.swap_outs;
  if (told.paging_since == 0 || now - told.paged_at < kPagingEndsAfter) return;
  sink_(Severity::kInfo, report.spec.name, "paging.ended",
        fmt::format("compressed {} and swapped {} in {:.1f} s; consumes {}",
                    format_size(pages_to_bytes(told.zips - told.zips_before)),
                    format_size(pages_to_bytes(told.swap_outs - told.swap_outs_before)),
                    static_cast<double>(told.paged_at - told.paging_since) / kSecond,
                    format_size(report.consumed_bytes)));
  told.paging_since = 0;
}

}  // namespace ballast::engine
