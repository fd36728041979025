// Reports as text for people. Pure: report in, lines out; golden texts in render_test.cc show what
// they look like.
#pragma once

#include <span>
#include <string>

#include "cli/rates.h"
#include "cli/table.h"
#include "model/report.h"

namespace ballast::cli {

std::string render_ls(const Observation& observation, const Style& style);
std::string render_show(const VmReport& vm, const Observation& observation, const Style& style);
std::string render_host(const HostReport& host, const Style& style);
std::string render_events(std::span<const Event> events, const Style& style);

Colour colour_of_vm_state(const VmReport& vm);
Colour colour_of_host_state(const std::string& state);

}  // namespace ballast::cli
