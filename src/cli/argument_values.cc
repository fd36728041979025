#include "cli/argument_values.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "base/units.h"
#include "model/salt.h"
#include "proto/control.h"
#include "proto/control_requests.h"

namespace ballast::cli {

namespace {

constexpr uint64_t kMebibyte = uint64_t{1} << 20;

bool is_number(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// Digits alone; nothing else, and no overflow.
Result<uint64_t> parse_number(const std::string& option, std::string_view text) {
  uint64_t number = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (problem == std::errc() && end == text.data() + text.size()) return number;
  return Error{fmt::format("{}: '{}' is not a whole number", option, text)};
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

// "min", "limit" or "shares" of a VM that might be, or might be changed.
Status read_member(const std::string& option, const std::string& key, const std::string& value,
                   AllocationChange& change) {
  const auto refuse_twice = [&](bool is_there) -> Status {
    if (!is_there) return Done{};
    return Error{fmt::format("{}: {} is given twice", option, key)};
  };
  if (key == "min") {
    BALLAST_TRY_STATUS(refuse_twice(change.min_bytes.has_value()));
    BALLAST_TRY(change.min_bytes, parse_megabytes(option, value));
  } else if (key == "limit") {
    BALLAST_TRY_STATUS(refuse_twice(change.limit_bytes.has_value()));
    BALLAST_TRY(change.limit_bytes, parse_limit(option, value));
  } else if (key == "shares") {
    BALLAST_TRY_STATUS(refuse_twice(change.shares.has_value()));
    BALLAST_TRY(change.shares, parse_shares(value));
  } else {
    return Error{
        fmt::format("{}: '{}' is not known; known are min, limit and shares", option, key)};
  }
  return Done{};
}

}  // namespace

Result<uint64_t> parse_megabytes(const std::string& option, const std::string& text) {
  const auto bytes = parse_size(text);
  if (!bytes) return Error{fmt::format("{}: {}", option, bytes.error().message)};
  if (*bytes % kMebibyte == 0) return *bytes;
  if (is_number(text)) {
    return Error{fmt::format("{} {}: without a unit these are bytes; write for example {}M", option,
                             text, text.substr(0, 12))};
  }
  return Error{fmt::format("{} {}: whole megabytes are needed; write for example {}M", option, text,
                           std::max<uint64_t>(1, *bytes / kMebibyte))};
}

Result<uint64_t> parse_limit(const std::string& option, const std::string& text) {
  if (text == "none") return kNoLimit;
  auto bytes = parse_megabytes(option, text);
  if (!bytes) return Error{bytes.error().message + ", or none"};
  return bytes;
}

Result<uint64_t> parse_balloon_max(const std::string& option, const std::string& text) {
  if (text == "default") return kDefaultBalloonMax;
  auto bytes = parse_megabytes(option, text);
  if (!bytes) return Error{bytes.error().message + ", or default"};
  return bytes;
}

Result<std::string> parse_salt(const std::string& option, const std::string& text) {
  if (text == "none") return std::string();
  if (const Status good = check_salt(text); !good) {
    return Error{fmt::format("{}: {}, or none", option, good.error().message)};
  }
  return text;
}

Result<uint64_t> parse_duration(const std::string& option, const std::string& text) {
  constexpr std::string_view kUnits = "smhd";
  constexpr uint64_t kSeconds[] = {1, 60, 3600, 86'400};
  const size_t unit = text.empty() ? std::string_view::npos : kUnits.find(text.back());
  const std::string digits = text.empty() ? "" : text.substr(0, text.size() - 1);
  if (unit == std::string_view::npos || !is_number(digits)) {
    return Error{fmt::format(
        "{}: '{}' is no time; write a number with s, m, h or d behind it, for example 90s or 10m",
        option, text)};
  }
  const uint64_t most = proto::kReserveSecondsMax;
  const auto number = parse_number(option, digits);
  if (!number || *number == 0 || *number > most / kSeconds[unit]) {
    return Error{fmt::format("{} {}: from 1s to {}d are possible", option, text, most / 86'400)};
  }
  return *number * kSeconds[unit];
}

bool is_uuid(const std::string& text) {
  if (text.size() != 36) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool is_dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (is_dash ? text[i] != '-' : std::isxdigit(static_cast<unsigned char>(text[i])) == 0) {
      return false;
    }
  }
  return true;
}

Result<std::vector<VmSpec>> parse_added_vms(const std::string& text) {
  const std::string option = fmt::format("--add {}", text);
  const std::vector<std::string> parts = split(text, ',');
  std::string size = parts[0];
  uint64_t count = 1;
  if (const size_t times = size.find('x'); times != std::string::npos) {
    BALLAST_TRY(count, parse_number(option, size.substr(0, times)));
    size = size.substr(times + 1);
  }
  if (count == 0 || count > proto::kWhatIfVmsMax) {
    return Error{fmt::format("{}: 1 to {} VMs can be added", option, proto::kWhatIfVmsMax)};
  }
  VmSpec spec;
  BALLAST_TRY(spec.configured_bytes, parse_megabytes("--add", size));
  AllocationChange change;
  for (size_t i = 1; i < parts.size(); ++i) {
    const size_t equals = std::min(parts[i].find('='), parts[i].size());
    const std::string value = equals < parts[i].size() ? parts[i].substr(equals + 1) : "";
    BALLAST_TRY_STATUS(read_member(option, parts[i].substr(0, equals), value, change));
  }
  spec.allocation = apply(spec.allocation, change);
  spec.name = "new";  // only for the check: names are given where those in use are known
  BALLAST_TRY_STATUS(proto::check_vm_spec(spec));
  spec.name.clear();
  return std::vector<VmSpec>(count, spec);
}

Status add_setting(const std::string& text, WhatIfQuestion& question) {
  const std::string option = fmt::format("--set {}", text);
  const size_t equals = text.find('=');
  const size_t dot = equals == std::string::npos ? equals : text.rfind('.', equals);
  if (dot == std::string::npos) {
    return Error{fmt::format("{}: write VM.shares=2000, VM.min=512M or VM.limit=2G", option)};
  }
  const std::string vm = text.substr(0, dot);
  BALLAST_TRY_STATUS(proto::check_vm_name(vm));
  auto known = std::ranges::find(question.set, vm, [](const auto& entry) { return entry.first; });
  if (known == question.set.end()) {
    known = question.set.insert(known, {vm, AllocationChange{}});
  }
  return read_member(option, text.substr(dot + 1, equals - dot - 1), text.substr(equals + 1),
                     known->second);
}

}  // namespace ballast::cli
