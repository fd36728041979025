#include "web/metrics.h"

#include <fmt/format.h>

#include <array>
#include <iterator>
#include <string_view>

namespace ballast::web {

namespace {

enum class Kind { kGauge, kCounter };

template <typename Report>
struct Metric {
  const char* name;
  Kind kind;
  uint64_t Report::*field;
  const char* help;
};

using enum Kind;

constexpr Metric<HostReport> kHost[] = {
    {"budget_bytes", kGauge, &HostReport::budget_bytes, "Memory that may be spent on VMs."},
    {"consumed_bytes", kGauge, &HostReport::consumed_bytes, "Memory spent on VMs and the daemon."},
    {"peak_consumed_bytes", kGauge, &HostReport::peak_consumed_bytes,
     "The most that was ever consumed since the daemon started."},
    {"free_bytes", kGauge, &HostReport::free_bytes, "Budget less consumed."},
    {"promised_bytes", kGauge, &HostReport::promised_bytes, "Sum of the VMs' configured sizes."},
    {"guaranteed_bytes", kGauge, &HostReport::min_bytes, "Sum of the VMs' mins."},
    {"unreserved_bytes", kGauge, &HostReport::unreserved_bytes,
     "What the mins of further VMs may still take."},
    {"divided_bytes", kGauge, &HostReport::divided_bytes, "What the targets divide among the VMs."},
    {"daemon_bytes", kGauge, &HostReport::daemon_bytes, "The daemon's own tables."},
    {"sharing_tables_bytes", kGauge, &HostReport::share_tables_bytes,
     "Hash tables and frame counts of page sharing."},
    {"soft_threshold_bytes", kGauge, &HostReport::soft_bytes,
     "Free memory below which the state is soft."},
    {"hard_threshold_bytes", kGauge, &HostReport::hard_bytes,
     "Free memory below which the state is hard."},
    {"low_threshold_bytes", kGauge, &HostReport::low_bytes,
     "Free memory below which the state is low."},
};

constexpr Metric<VmReport> kVm[] = {
    {"target_bytes", kGauge, &VmReport::target_bytes,
     "What the policy wants it to consume at most."},
    {"consumed_bytes", kGauge, &VmReport::consumed_bytes, "What it costs the host."},
    {"resident_bytes", kGauge, &VmReport::resident_bytes, "Frames of its RAM."},
    {"shared_bytes", kGauge, &VmReport::shared_bytes, "Guest memory mapped to shared frames."},
    {"shared_part_bytes", kGauge, &VmReport::share_part_bytes,
     "Its part of the shared frames; consumed counts it."},
    {"compression_cache_bytes", kGauge, &VmReport::arena_bytes, "Frames of its compression cache."},
    {"overhead_bytes", kGauge, &VmReport::overhead_bytes, "Tables and buffers for it."},
    {"compressed_bytes", kGauge, &VmReport::compressed_bytes,
     "Guest memory held in the cache, at its uncompressed size."},
    {"swapped_bytes", kGauge, &VmReport::swapped_bytes, "Guest memory in its swap file."},
    {"zero_bytes", kGauge, &VmReport::zero_bytes, "Pages known to be zero that were dropped."},
    {"given_up_bytes", kGauge, &VmReport::ballooned_bytes,
     "Memory the guest gave up, by balloon or free-page report."},
    {"active_bytes", kGauge, &VmReport::active_bytes, "Estimate of what it touches."},
    {"active_error_bytes", kGauge, &VmReport::active_error_bytes,
     "The estimate's error at 95 % confidence, to both sides."},
    {"wanted_bytes", kGauge, &VmReport::want_bytes, "What it would consume if it were alone."},
    {"balloon_bytes", kGauge, &VmReport::balloon_bytes, "Size of its balloon."},
    {"balloon_target_bytes", kGauge, &VmReport::balloon_target_bytes,
     "Size its balloon was asked for."},
    {"balloon_max_bytes", kGauge, &VmReport::balloon_max_bytes, "Largest balloon allowed."},
    {"guest_available_bytes", kGauge, &VmReport::guest_available_bytes,
     "What the guest says is available; 0 where it does not say."},
    {"swap_reserved_bytes", kGauge, &VmReport::swap_reserved_bytes, "Disk reserved for its swap."},
    {"shares", kGauge, &VmReport::shares, "Its weight when memory is divided."},
    {"lost_pages", kGauge, &VmReport::lost_pages, "Pages that cannot be read back."},
    {"faults_total", kCounter, &VmReport::faults, "Faults served."},
    {"first_touches_total", kCounter, &VmReport::first_touches, "Faults that were first touches."},
    {"compressed_pages_total", kCounter, &VmReport::zips, "Pages compressed."},
    {"decompressed_pages_total", kCounter, &VmReport::unzips, "Pages decompressed for faults."},
    {"swapped_out_pages_total", kCounter, &VmReport::swap_outs, "Pages written to swap."},
    {"swapped_in_pages_total", kCounter, &VmReport::swap_ins,
     "Pages read from swap for faults, read-ahead included."},
    {"brought_back_pages_total", kCounter, &VmReport::brought_back,
     "Pages read from swap before they were missed."},
    {"clean_drops_total", kCounter, &VmReport::clean_drops,
     "Pages reclaimed again without being rewritten."},
    {"waits_total", kCounter, &VmReport::waits, "Faults that had to wait for memory."},
    {"sample_faults_total", kCounter, &VmReport::sample_faults, "Faults that sampling cost."},
    {"share_scanned_pages_total", kCounter, &VmReport::share_scanned,
     "Pages looked at for sharing."},
    {"share_joins_total", kCounter, &VmReport::share_joins,
     "Pages that gave their frame up for a shared one."},
    {"share_breaks_total", kCounter, &VmReport::share_breaks, "Shared pages that were written."},
};

constexpr std::array kHostStates = {"high", "clear", "soft", "hard", "low"};

// Label values are quoted; what would end the quotes, and what is no text, must not come through.
std::string escaped(std::string_view value) {
  std::string result;
  for (const char c : value) {
    if (c == '\\' || c == '"') result += '\\';
    const auto byte = static_cast<unsigned char>(c);
    result += byte < 0x20 || byte >= 0x7f ? '?' : c;
  }
  return result;
}

class Text {
 public:
  void head(const char* prefix, const char* name, Kind kind, const char* help) {
    fmt::format_to(out(), "# HELP {0}{1} {2}\n# TYPE {0}{1} {3}\n", prefix, name, help,
                   kind == kCounter ? "counter" : "gauge");
  }
  template <typename Value>
  void line(const char* prefix, const char* name, const std::string& labels, Value value) {
    fmt::format_to(out(), "{}{}{} {}\n", prefix, name, labels, value);
  }
  std::string take() { return std::move(text_); }

 private:
  std::back_insert_iterator<std::string> out() { return std::back_inserter(text_); }
  std::string text_;
};

constexpr const char* kHostPrefix = "ballast_host_";
constexpr const char* kVmPrefix = "ballast_vm_";

double seconds(uint64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1e9; }

void add_host(const HostReport& host, Text& text) {
  for (const auto& metric : kHost) {
    text.head(kHostPrefix, metric.name, metric.kind, metric.help);
    text.line(kHostPrefix, metric.name, "", host.*metric.field);
  }
  text.head(kHostPrefix, "state", kGauge, "1 for the state the host is in, 0 for the others.");
  for (const char* state : kHostStates) {
    text.line(kHostPrefix, "state", fmt::format("{{state=\"{}\"}}", state),
              host.state == state ? 1 : 0);
  }
  text.head(kHostPrefix, "state_age_seconds", kGauge, "How long it has been in its state.");
  text.line(kHostPrefix, "state_age_seconds", "", seconds(host.state_ns));
  text.head(kHostPrefix, "uptime_seconds", kGauge, "How long the daemon has been running.");
  text.line(kHostPrefix, "uptime_seconds", "", seconds(host.uptime_ns));
  text.head(kHostPrefix, "vms", kGauge, "VMs that are served.");
  text.line(kHostPrefix, "vms", "", host.vms.size());
}

void add_groups(const HostReport& host, Text& text) {
  uint64_t shared = 0;
  uint64_t common = 0;
  for (const ShareGroupReport& group : host.share_groups) {
    shared += group.shared_bytes;
    common += group.common_bytes;
  }
  text.head(kHostPrefix, "shared_bytes", kGauge, "Guest memory mapped to shared frames.");
  text.line(kHostPrefix, "shared_bytes", "", shared);
  text.head(kHostPrefix, "shared_frames_bytes", kGauge,
            "Frames that hold shared pages; shared less these is what sharing saves.");
  text.line(kHostPrefix, "shared_frames_bytes", "", common);
}

// What is no plain number of the report.
void add_vm_states(const HostReport& host, const std::vector<std::string>& labels, Text& text) {
  const auto each = [&](const char* name, const char* help, auto&& value) {
    text.head(kVmPrefix, name, kGauge, help);
    for (size_t i = 0; i < host.vms.size(); ++i) {
      text.line(kVmPrefix, name, labels[i], value(host.vms[i]));
    }
  };
  each("configured_bytes", "What the guest sees as its RAM.",
       [](const VmReport& vm) { return vm.spec.configured_bytes; });
  each("min_bytes", "What is never reclaimed.",
       [](const VmReport& vm) { return vm.spec.allocation.min_bytes; });
  each("limit_bytes", "The most it may have; its configured size where it has no limit.",
       [](const VmReport& vm) { return max_bytes(vm.spec.allocation, vm.spec.configured_bytes); });
  each("paused", "1: it is paused, because a page cannot be read back or its disk fails.",
       [](const VmReport& vm) { return vm.state == "paused" ? 1 : 0; });
  each("blocked", "1: its next fault waits, the host being low and the VM above its target.",
       [](const VmReport& vm) { return vm.blocked ? 1 : 0; });
  each("balloon_stuck", "1: its balloon does not do what it was asked for.",
       [](const VmReport& vm) { return vm.balloon_state == "stuck" ? 1 : 0; });
  each("fault_p50_seconds", "Half of its faults were served within this time.",
       [](const VmReport& vm) { return seconds(vm.fault_p50_ns); });
  each("fault_p99_seconds", "99 % of its faults were served within this time.",
       [](const VmReport& vm) { return seconds(vm.fault_p99_ns); });
}

}  // namespace

std::string metrics_text(const HostReport& host, const std::string& version) {
  Text text;
  text.head("ballast_", "build_info", kGauge, "The daemon's version; always 1.");
  text.line("ballast_", "build_info", fmt::format("{{version=\"{}\"}}", escaped(version)), 1);
  add_host(host, text);
  add_groups(host, text);
  std::vector<std::string> labels;
  for (const VmReport& vm : host.vms) {
    labels.push_back(
        fmt::format("{{vm=\"{}\",uuid=\"{}\"}}", escaped(vm.spec.name), escaped(vm.spec.uuid)));
  }
  for (const auto& metric : kVm) {
    text.head(kVmPrefix, metric.name, metric.kind, metric.help);
    for (size_t i = 0; i < host.vms.size(); ++i) {
      text.line(kVmPrefix, metric.name, labels[i], host.vms[i].*metric.field);
    }
  }
  add_vm_states(host, labels, text);
  return text.take();
}

}  // namespace ballast::web
