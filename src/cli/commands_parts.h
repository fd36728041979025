// Parts of commands.cc: each asks the daemon and returns what to print.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/table.h"
#include "model/report.h"

namespace ballast::cli {

std::string pretty(const nlohmann::json& value);
Result<HostReport> ask_host(const Arguments& arguments);

struct EventsPortion {
  std::vector<Event> events;
  uint64_t last = 0;  // the newest sequence the daemon has
};
Result<EventsPortion> ask_events(const Arguments& arguments, uint64_t since);

// commands_doctor.cc: the program's exit status.
int doctor(const DoctorArguments& asked, const Arguments& arguments, const Output& output);

// commands_policy.cc: allocations, options, and what they lead to.
Result<std::string> set(const SetArguments& asked, const Arguments& arguments);
Result<std::string> options(const OptionsArguments& asked, const Arguments& arguments,
                            const Style& style);
Result<std::string> what_if(const WhatIfArguments& asked, const Arguments& arguments,
                            const Style& style);
Result<std::string> why(const WhyArguments& asked, const Arguments& arguments, const Style& style);
Result<std::string> reserve(const ReserveArguments& asked, const Arguments& arguments);
Result<std::string> unreserve(const UnreserveArguments& asked, const Arguments& arguments);
Result<std::string> reclaim(const ReclaimArguments& asked, const Arguments& arguments);

}  // namespace ballast::cli
