#include "proto/report_json.h"

#include <optional>
#include <type_traits>

namespace ballast::proto {

namespace {

// The one list of fields, for writing (const report) and reading alike; report_json_test counts
// them.
template <typename Report, typename Visit>
void visit_sharing(Report& r, Visit&& visit) {
  visit("share_enable", r.spec.share_enable);
  visit("salt", r.spec.salt);
  visit("share_group", r.spec.share_group);
  visit("shared_bytes", r.shared_bytes);
  visit("share_part_bytes", r.share_part_bytes);
  visit("share_hints", r.share_hints);
  visit("share_scanned", r.share_scanned);
  visit("share_joins", r.share_joins);
  visit("share_breaks", r.share_breaks);
  visit("share_rate", r.share_rate);
  visit("share_note", r.share_note);
  visit("power_on_salt", r.power_on.salt);
  visit("power_on_sharing", r.power_on.sharing);
  visit("next_share_group", r.next_share_group);
}

template <typename Report, typename Visit>
requires std::is_same_v<std::remove_const_t<Report>, VmReport>
void visit_fields(Report& r, Visit&& visit) {
  visit("name", r.spec.name);
  visit("uuid", r.spec.uuid);
  visit("configured_bytes", r.spec.configured_bytes);
  visit("min_bytes", r.spec.allocation.min_bytes);
  visit.or_none("limit_bytes", r.spec.allocation.limit_bytes);
  visit("share_setting", r.spec.allocation.shares);
  visit.or_none("balloon_max_setting", r.spec.allocation.balloon_max_bytes);
  visit("pid", r.pid);
  visit("state", r.state);
  visit("pause_reason", r.pause_reason);
  visit("target_bytes", r.target_bytes);
  visit("consumed_bytes", r.consumed_bytes);
  visit("resident_bytes", r.resident_bytes);
  visit("arena_bytes", r.arena_bytes);
  visit("arena_max_bytes", r.arena_max_bytes);
  visit("overhead_bytes", r.overhead_bytes);
  visit("compressed_bytes", r.compressed_bytes);
  visit("swapped_bytes", r.swapped_bytes);
  visit("zero_bytes", r.zero_bytes);
  visit("ballooned_bytes", r.ballooned_bytes);
  visit("swap_reserved_bytes", r.swap_reserved_bytes);
  visit("swap_target_bytes", r.swap_target_bytes);
  visit("lost_pages", r.lost_pages);
  visit("shares", r.shares);
  visit("want_bytes", r.want_bytes);
  visit("bound", r.bound);
  visit("blocked", r.blocked);
  visit("active_bytes", r.active_bytes);
  visit("active_error_bytes", r.active_error_bytes);
  visit("active_slow_bytes", r.active_slow_bytes);
  visit("active_fast_bytes", r.active_fast_bytes);
  visit("active_now_bytes", r.active_now_bytes);
  visit("samples", r.samples);
  visit("balloon_state", r.balloon_state);
  visit("balloon_bytes", r.balloon_bytes);
  visit("balloon_target_bytes", r.balloon_target_bytes);
  visit("balloon_max_bytes", r.balloon_max_bytes);
  visit("guest_total_bytes", r.guest_total_bytes);
  visit("guest_available_bytes", r.guest_available_bytes);
  visit("faults", r.faults);
  visit("first_touches", r.first_touches);
  visit("unzips", r.unzips);
  visit("swap_ins", r.swap_ins);
  visit("zips", r.zips);
  visit("swap_outs", r.swap_outs);
  visit("brought_back", r.brought_back);
  visit("clean_drops", r.clean_drops);
  visit("waits", r.waits);
  visit("sample_faults", r.sample_faults);
  visit("fault_p50_ns", r.fault_p50_ns);
  visit("fault_p99_ns", r.fault_p99_ns);
  visit("last_zip_unix_ms", r.last_zip_unix_ms);
  visit("last_swap_out_unix_ms", r.last_swap_out_unix_ms);
  visit_sharing(r, visit);
}

template <typename Report, typename Visit>
requires std::is_same_v<std::remove_const_t<Report>, HostReport>
void visit_fields(Report& r, Visit&& visit) {
  visit("machine_total_bytes", r.machine_total_bytes);
  visit("machine_available_bytes", r.machine_available_bytes);
  visit("budget_bytes", r.budget_bytes);
  visit("consumed_bytes", r.consumed_bytes);
  visit("peak_consumed_bytes", r.peak_consumed_bytes);
  visit("free_bytes", r.free_bytes);
  visit("promised_bytes", r.promised_bytes);
  visit("min_bytes", r.min_bytes);
  visit("daemon_bytes", r.daemon_bytes);
  visit("state", r.state);
  visit("state_ns", r.state_ns);
  visit("min_free_bytes", r.min_free_bytes);
  visit("soft_bytes", r.soft_bytes);
  visit("hard_bytes", r.hard_bytes);
  visit("low_bytes", r.low_bytes);
  visit("divided_bytes", r.divided_bytes);
  visit("unreserved_bytes", r.unreserved_bytes);
  visit("overcommit_1min_percent", r.overcommit_1min_percent);
  visit("overcommit_5min_percent", r.overcommit_5min_percent);
  visit("overcommit_15min_percent", r.overcommit_15min_percent);
  visit("idle_tax_percent", r.idle_tax_percent);
  visit("idle_tax_type", r.idle_tax_type);
  visit("uptime_ns", r.uptime_ns);
  visit("reservations", r.reservations);
  visit("share_tables_bytes", r.share_tables_bytes);
  visit("share_groups", r.share_groups);
  visit("vms", r.vms);
}

template <typename Report, typename Visit>
requires std::is_same_v<std::remove_const_t<Report>, ShareGroupReport>
void visit_fields(Report& r, Visit&& visit) {
  visit("name", r.name);
  visit("vms", r.vms);
  visit("common_bytes", r.common_bytes);
  visit("shared_bytes", r.shared_bytes);
  visit("hints", r.hints);
}

template <typename Report, typename Visit>
requires std::is_same_v<std::remove_const_t<Report>, Reservation>
void visit_fields(Report& r, Visit&& visit) {
  visit("vm", r.vm);
  visit("configured_bytes", r.configured_bytes);
  visit("min_bytes", r.min_bytes);
  visit("left_ns", r.left_ns);
}

template <typename Report, typename Visit>
requires std::is_same_v<std::remove_const_t<Report>, Event>
void visit_fields(Report& r, Visit&& visit) {
  visit("sequence", r.sequence);
  visit("unix_ms", r.unix_ms);
  visit("severity", r.severity);
  visit("vm", r.vm);
  visit("kind", r.kind);
  visit("message", r.message);
}

template <typename Report, typename Visit>
requires std::is_same_v<std::remove_const_t<Report>, OptionReport>
void visit_fields(Report& r, Visit&& visit) {
  visit("name", r.name);
  visit("value", r.value);
  visit("default", r.default_value);
  visit("allowed", r.allowed);
  visit("meaning", r.meaning);
  visit("at_once", r.at_once);
}

template <typename Report, typename Visit>
requires std::is_same_v<std::remove_const_t<Report>, WhatIfRow>
void visit_fields(Report& r, Visit&& visit) {
  visit("name", r.name);
  visit("configured_bytes", r.configured_bytes);
  visit("min_bytes", r.min_bytes);
  visit.or_none("limit_bytes", r.limit_bytes);
  visit("shares", r.shares);
  visit("is_new", r.is_new);
  visit("target_now_bytes", r.target_now_bytes);
  visit("target_then_bytes", r.target_then_bytes);
  visit("want_bytes", r.want_bytes);
  visit("bound_now", r.bound_now);
  visit("bound_then", r.bound_then);
}

template <typename Report, typename Visit>
requires std::is_same_v<std::remove_const_t<Report>, WhatIfAnswer>
void visit_fields(Report& r, Visit&& visit) {
  visit("rows", r.rows);
  visit("refusal", r.refusal);
  visit("divided_now_bytes", r.divided_now_bytes);
  visit("divided_then_bytes", r.divided_then_bytes);
}

constexpr uint64_t kNone = ~uint64_t{0};
static_assert(kNone == kNoLimit && kNone == kDefaultBalloonMax);

class Writer {
 public:
  template <typename Field>
  void operator()(const char* name, const Field& field) {
    json_[name] = field;
  }
  void operator()(const char* name, const Shares& shares) { json_[name] = format_shares(shares); }
  void operator()(const char* name, PageSharing sharing) { json_[name] = format_sharing(sharing); }
  template <typename Report>
  void operator()(const char* name, const std::vector<Report>& reports) {
    nlohmann::json& array = json_[name] = nlohmann::json::array();
    for (const Report& one : reports) {
      Writer writer;
      visit_fields(one, writer);
      array.push_back(writer.take());
    }
  }
  // A number for which ~0 stands for "none": null.
  void or_none(const char* name, uint64_t field) {
    json_[name] = field == kNone ? nlohmann::json() : nlohmann::json(field);
  }
  nlohmann::json take() { return std::move(json_); }

 private:
  nlohmann::json json_ = nlohmann::json::object();
};

// Keeps the first error; fields after it are left alone.
class Reader {
 public:
  explicit Reader(const nlohmann::json& json) : json_(json) {}

  template <typename Field>
  void operator()(const char* name, Field& field) {
    if (error_) return;
    const auto member = json_.find(name);
    if (member == json_.end()) return;
    if (!assign(*member, field)) {
      error_ = Error{fmt::format("a report's \"{}\" is a {} where another type is needed", name,
                                 member->type_name())};
    }
  }
  void or_none(const char* name, uint64_t& field) {
    const auto member = json_.find(name);
    if (member != json_.end() && member->is_null()) {
      field = kNone;
    } else {
      (*this)(name, field);
    }
  }
  const std::optional<Error>& error() const { return error_; }

 private:
  static bool assign(const nlohmann::json& member, std::string& field) {
    if (!member.is_string()) return false;
    field = member.get_ref<const std::string&>();
    return true;
  }
  static bool assign(const nlohmann::json& member, bool& field) {
    if (!member.is_boolean()) return false;
    field = member.get<bool>();
    return true;
  }
  static bool assign(const nlohmann::json& member, Shares& field) {
    if (!member.is_string()) return false;
    const auto shares = parse_shares(member.get_ref<const std::string&>());
    if (shares) field = *shares;
    return shares.has_value();
  }
  static bool assign(const nlohmann::json& member, PageSharing& field) {
    if (!member.is_string()) return false;
    const auto sharing = parse_sharing(member.get_ref<const std::string&>());
    if (sharing) field = *sharing;
    return sharing.has_value();
  }
  template <typename Report>
  bool assign(const nlohmann::json& member, std::vector<Report>& field) {
    if (!member.is_array()) return false;
    for (const nlohmann::json& element : member) {
      if (!element.is_object()) return false;
      Reader reader(element);
      visit_fields(field.emplace_back(), reader);
      if (reader.error()) error_ = reader.error();
    }
    return true;
  }
  static bool assign(const nlohmann::json& member, uint64_t& field) {
    if (!member.is_number_unsigned()) return false;
    field = member.get<uint64_t>();
    return true;
  }
  static bool assign(const nlohmann::json& member, int32_t& field) {
    if (!member.is_number_integer()) return false;
    const auto wide = member.get<int64_t>();
    field = static_cast<int32_t>(wide);
    return field == wide;
  }

  const nlohmann::json& json_;
  std::optional<Error> error_;
};

template <typename Report>
nlohmann::json write(const Report& report) {
  Writer writer;
  visit_fields(report, writer);
  return writer.take();
}

template <typename Report>
Result<Report> read(const nlohmann::json& json) {
  if (!json.is_object()) {
    return Error{fmt::format("a report is a {} where an object is needed", json.type_name())};
  }
  Report report;
  Reader reader(json);
  visit_fields(report, reader);
  if (reader.error()) return *reader.error();
  return report;
}

}  // namespace

nlohmann::json to_json(const VmReport& report) { return write(report); }
nlohmann::json to_json(const HostReport& report) { return write(report); }
nlohmann::json to_json(const Event& event) { return write(event); }
nlohmann::json to_json(const OptionReport& option) { return write(option); }
nlohmann::json to_json(const WhatIfAnswer& answer) { return write(answer); }

Result<VmReport> vm_report_from_json(const nlohmann::json& json) { return read<VmReport>(json); }
Result<HostReport> host_report_from_json(const nlohmann::json& json) {
  return read<HostReport>(json);
}
Result<Event> event_from_json(const nlohmann::json& json) { return read<Event>(json); }
Result<OptionReport> option_from_json(const nlohmann::json& json) {
  return read<OptionReport>(json);
}
Result<WhatIfAnswer> what_if_from_json(const nlohmann::json& json) {
  return read<WhatIfAnswer>(json);
}

std::string to_line(const nlohmann::json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace ballast::proto
