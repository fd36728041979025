#include <algorithm>

#include "base/units.h"
#include "cli/format.h"
#include "cli/render.h"

namespace ballast::cli {

namespace {

constexpr size_t kIndent = 16;  // under the text of a labelled line

// What decides the target, as a sentence.
std::string bound_sentence(const VmReport& vm, const HostReport& host) {
  const Allocation& allocation = vm.spec.allocation;
  if (vm.bound == "shares") {
    return fmt::format(
        "Its shares decide that: {} of all shares buy it so much of the {} that are divided among "
        "the VMs; it could use {}.",
        format_percent(vm.shares, sum_of_shares(host)), format_size(host.divided_bytes),
        format_size(vm.want_bytes));
  }
  if (vm.bound == "min") {
    return fmt::format(
        "Its min decides that: its shares alone would buy it less, but {} and its overhead of {} "
        "are guaranteed to it.",
        format_size(allocation.min_bytes), format_size(vm.overhead_bytes));
  }
  if (vm.bound == "want") {
    return "Its own need decides that: it is what the VM uses and some room to grow; nothing holds "
           "it back.";
  }
  if (vm.bound == "limit") {
    return fmt::format(
        "Its limit decides that: it may never have more than {}, however much memory is free "
        "('ballast set {} --limit none' lifts it).",
        limit_text(allocation.limit_bytes), vm.spec.name);
  }
  if (vm.bound == "max") {
    return fmt::format("Its configured size decides that: it may have all of its {}.",
                       format_size(vm.spec.configured_bytes));
  }
  return "This program does not know what decides that; are daemon and ballast of one version?";
}

// Where it stands, and what is being done about it.
std::string standing_sentence(const VmReport& vm, const HostReport& host) {
  if (vm.consumed_bytes <= vm.target_bytes) {
    return fmt::format("It may grow by {} before it reaches its target.",
                       format_size(vm.target_bytes - vm.consumed_bytes));
  }
  const std::string above =
      fmt::format("It is {} above its target", format_size(vm.consumed_bytes - vm.target_bytes));
  if (vm.bound == "limit") return above + "; that is taken back in every state of the host.";
  if (host.state == "high" || host.state == "clear") {
    return above + "; nothing is taken from it while enough is free.";
  }
  if (host.state == "soft") {
    return above + "; its balloon takes that back, or paging where the balloon cannot.";
  }
  return above + "; it is being compressed and swapped down to it.";
}

std::string shares_line(const VmReport& vm, const HostReport& host) {
  const uint64_t all = sum_of_shares(host);
  const uint64_t megabytes = std::max<uint64_t>(vm.spec.configured_bytes >> 20, 1);
  const std::string origin =
      vm.spec.allocation.shares.level == ShareLevel::kCustom
          ? "a number of its own"
          : fmt::format("{}: {} for each MB of its memory",
                        format_shares(vm.spec.allocation.shares), vm.shares / megabytes);
  return fmt::format("{} ({}), {} of all {}", vm.shares, origin, format_percent(vm.shares, all),
                     all);
}

std::string tax_line(const VmReport& vm, const HostReport& host) {
  if (host.idle_tax_percent == 0) return "none: an idle page costs what an active one costs";
  const double factor =
      100.0 / (100.0 - static_cast<double>(std::min<uint64_t>(host.idle_tax_percent, 99)));
  const bool varies = host.idle_tax_type == "variable";
  std::string line = fmt::format("{}: an idle page costs {}{:.1f} times what an active one costs{}",
                                 tax_text(host), varies ? "up to " : "", factor,
                                 varies ? ", the more, the more of the VM is idle" : "");
  if (vm.samples > 0) {
    const uint64_t idle = vm.consumed_bytes - std::min(vm.consumed_bytes, vm.active_bytes);
    line += fmt::format("; {} of what it has is idle", format_percent(idle, vm.consumed_bytes));
  }
  return line;
}

std::string when_text(uint64_t unix_ms) {
  return unix_ms == 0 ? "none since the daemon began to serve it"
                      : "last at " + format_time(unix_ms);
}

std::string host_line(const HostReport& host) {
  return fmt::format(
      "state {} for {} ({}): {} free of {}; soft below {}, hard below {}, low below {}", host.state,
      format_uptime(host.state_ns), meaning_of_host_state(host.state), format_size(host.free_bytes),
      format_size(host.budget_bytes), format_size(host.soft_bytes), format_size(host.hard_bytes),
      format_size(host.low_bytes));
}

class Lines {
 public:
  explicit Lines(const Style& style) : style_(style) {}
  void sentence(const std::string& text, Colour colour = Colour::kNone) {
    text_ += coloured(wrapped(printable(text), 0, style_), colour, style_) + '\n';
  }
  void labelled(const char* label, const std::string& text, Colour colour = Colour::kNone) {
    const std::string line = fmt::format("  {:<14}{}", label, printable(text));
    text_ += coloured(wrapped(line, kIndent, style_), colour, style_) + '\n';
  }
  std::string take() { return std::move(text_); }

 private:
  const Style& style_;
  std::string text_;
};

void add_claims(const VmReport& vm, const HostReport& host, Lines& lines) {
  const Allocation& allocation = vm.spec.allocation;
  lines.labelled("shares", shares_line(vm, host));
  lines.labelled("active",
                 vm.samples == 0
                     ? active_detail(vm)
                     : fmt::format("{} {}, from {} period{}", format_size(vm.active_bytes),
                                   active_detail(vm), vm.samples, vm.samples == 1 ? "" : "s"));
  lines.labelled("tax", tax_line(vm, host));
  lines.labelled("wants",
                 fmt::format("{}: what it uses and some to grow", format_size(vm.want_bytes)));
  lines.labelled("min", allocation.min_bytes == 0 ? "none: all of it may be taken"
                                                  : fmt::format("{}: it is never left with less",
                                                                format_size(allocation.min_bytes)));
  lines.labelled("limit", allocation.limit_bytes == kNoLimit
                              ? "none: it may have all of its memory"
                              : fmt::format("{}: never more, however much is free",
                                            limit_text(allocation.limit_bytes)));
  lines.labelled("host", host_line(host));
}

void add_sharing(const VmReport& vm, const HostReport& host, Lines& lines) {
  lines.labelled("sharing", sharing_sentence(vm, host));
  if (!vm.spec.share_group.empty()) {
    lines.labelled(
        "scan",
        fmt::format("{} pages/s; {} pages scanned, {} joined a shared frame, {} written since "
                    "(breaks), {} known by their content (hints){}{}",
                    vm.share_rate, vm.share_scanned, vm.share_joins, vm.share_breaks,
                    vm.share_hints, vm.share_note.empty() ? "" : "; ", vm.share_note));
  } else if (!vm.share_note.empty()) {
    lines.labelled("scan", vm.share_note);
  }
  const std::string waiting = waiting_text(vm);
  if (!waiting.empty()) lines.labelled("waiting", waiting, Colour::kYellow);
}

void add_means(const VmReport& vm, Lines& lines) {
  const bool has_balloon = !vm.balloon_state.empty() && vm.balloon_state != "none";
  const std::string balloon = fmt::format(
      "{}: {}",
      has_balloon ? fmt::format("{} {}", format_size(vm.balloon_bytes), balloon_detail(vm))
                  : "none",
      meaning_of_balloon_state(has_balloon ? vm.balloon_state : "none"));
  const bool is_in_trouble = vm.balloon_state == "stuck" || vm.balloon_state == "unreachable";
  lines.labelled("balloon", balloon, is_in_trouble ? Colour::kYellow : Colour::kNone);
  lines.labelled("guest says",
                 vm.guest_total_bytes == 0
                     ? "nothing of its memory"
                     : fmt::format("{} in all, {} available", format_size(vm.guest_total_bytes),
                                   format_size(vm.guest_available_bytes)));
  lines.labelled("compressed",
                 fmt::format("{} in {} of cache; {}", format_size(vm.compressed_bytes),
                             format_size(vm.arena_bytes), when_text(vm.last_zip_unix_ms)));
  lines.labelled("swapped", fmt::format("{}; {}", format_size(vm.swapped_bytes),
                                        when_text(vm.last_swap_out_unix_ms)));
  lines.labelled(
      "returned",
      fmt::format("{} pages decompressed and {} read for faults, {} read before they were missed",
                  vm.unzips, vm.swap_ins, vm.brought_back));
  if (vm.blocked) {
    lines.labelled("blocked",
                   "yes: the host is low on memory and the VM above its target, so its next fault "
                   "waits",
                   Colour::kRed);
  } else {
    lines.labelled("blocked", "no");
  }
}

}  // namespace

std::string render_why(const VmReport& vm, const HostReport& host, std::span<const Event> events,
                       const Style& style) {
  Lines lines(style);
  lines.sentence(fmt::format("{} consumes {}; its target is {}, of {} configured.", vm.spec.name,
                             format_size(vm.consumed_bytes), format_size(vm.target_bytes),
                             format_size(vm.spec.configured_bytes)),
                 Colour::kBold);
  lines.sentence(bound_sentence(vm, host));
  lines.sentence(standing_sentence(vm, host));
  if (vm.state == "paused") {
    lines.sentence(fmt::format("It is paused: {}.", vm.pause_reason), Colour::kRed);
  }
  add_claims(vm, host, lines);
  add_sharing(vm, host, lines);
  add_means(vm, lines);
  if (events.empty()) return lines.take();
  return lines.take() + "Its last events\n" + render_events(events, style);
}

}  // namespace ballast::cli
