// Reports as text for people. Pure: report in, lines out; golden texts in render_test.cc show what
// they look like.
#pragma once

#include <span>
#include <string>

#include "cli/rates.h"
#include "cli/table.h"
#include "model/options.h"
#include "model/report.h"
#include "model/what_if.h"

namespace ballast::cli {

std::string render_ls(const Observation& observation, const Style& style);
std::string render_show(const VmReport& vm, const Observation& observation, const Style& style);
std::string render_host(const HostReport& host, const Style& style);
// Why `vm`, one of the host's, has what it has; `events`: its last few.
std::string render_why(const VmReport& vm, const HostReport& host, std::span<const Event> events,
                       const Style& style);
// What the VM is granted now, in one line.
std::string render_allocation(const VmReport& vm);
// What is kept for the VM's next power-on and what it will change, in one line.
std::string render_power_on(const VmReport& vm);
// A table of salt groups; nothing where there are none.
std::string render_share_groups(const HostReport& host, const Style& style);
std::string render_what_if(const WhatIfAnswer& answer, const Style& style);
std::string render_options(std::span<const OptionReport> options, const Style& style);
// `note`: why a change will not survive a restart; may be empty.
std::string render_option(const OptionReport& option, const std::string& note);
std::string render_events(std::span<const Event> events, const Style& style);

Colour colour_of_vm_state(const VmReport& vm);
Colour colour_of_host_state(const std::string& state);

// Words that several reports share.
const char* meaning_of_host_state(const std::string& state);
const char* meaning_of_balloon_state(const std::string& state);
std::string limit_text(uint64_t limit_bytes);       // "3 GB", "none"
std::string shares_word(const VmReport& vm);        // "normal", "custom"
std::string active_detail(const VmReport& vm);      // what follows the estimate
std::string balloon_detail(const VmReport& vm);     // what follows the balloon's size
std::string tax_text(const HostReport& host);       // "75 %, variable"
std::string group_words(const std::string& group);  // "salt group web", "a salt group of its own"
// "in salt group web, with 3 other VMs", "off: …"
std::string membership_text(const VmReport& vm, const HostReport& host);
// What of the VM is shared with whom, and what that saves.
std::string sharing_sentence(const VmReport& vm, const HostReport& host);
std::string waiting_text(const VmReport& vm);  // what its next power-on changes; empty: nothing

}  // namespace ballast::cli
