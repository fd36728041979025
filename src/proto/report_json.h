// What the daemon tells (reports, events, options, what-if answers) as JSON, and back.
//
// Every field keeps its C++ name; a VmReport's spec is not nested (name, uuid, configured_bytes and
// min_bytes stand beside the rest). Reading is lenient where daemon and reader may be of different
// versions (unknown members are ignored, missing ones keep their default) and strict otherwise: a
// member of the wrong type is an error that names it. Texts that are not UTF-8 survive as far as
// JSON can carry them. Pure functions; any thread.
#pragma once

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "model/options.h"
#include "model/report.h"
#include "model/what_if.h"

namespace ballast::proto {

nlohmann::json to_json(const VmReport& report);
nlohmann::json to_json(const HostReport& report);  // with its "vms"
nlohmann::json to_json(const Event& event);
nlohmann::json to_json(const OptionReport& option);  // default_value as "default"
nlohmann::json to_json(const WhatIfAnswer& answer);  // with its "rows"

Result<VmReport> vm_report_from_json(const nlohmann::json& json);
Result<HostReport> host_report_from_json(const nlohmann::json& json);
Result<Event> event_from_json(const nlohmann::json& json);
Result<OptionReport> option_from_json(const nlohmann::json& json);
Result<WhatIfAnswer> what_if_from_json(const nlohmann::json& json);

// One line without the newline; bytes that are not UTF-8 become U+FFFD instead of an exception.
std::string to_line(const nlohmann::json& json);

}  // namespace ballast::proto
