// What stands behind the options of the command line: sizes, times, VMs that might be. Pure: text
// in, values out, or a sentence that names the option, the text and what is accepted.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/what_if.h"

namespace ballast::cli {

// "512M", "2G": QEMU's -m and a person's eye both want whole megabytes.
Result<uint64_t> parse_megabytes(const std::string& option, const std::string& text);
// The same, or "none".
Result<uint64_t> parse_limit(const std::string& option, const std::string& text);
// The same, or "default" for the host's Mem.CtlMaxPercent.
Result<uint64_t> parse_balloon_max(const std::string& option, const std::string& text);
// A salt, or "none": empty.
Result<std::string> parse_salt(const std::string& option, const std::string& text);
// "90s", "10m", "2h", "1d", as seconds.
Result<uint64_t> parse_duration(const std::string& option, const std::string& text);
bool is_uuid(const std::string& text);

// --add [N x]SIZE[,min=SIZE][,limit=SIZE][,shares=…]: N VMs without names.
Result<std::vector<VmSpec>> parse_added_vms(const std::string& text);
// --set VM.shares=2000, VM.min=…, VM.limit=…: added to what is there for this VM.
Status add_setting(const std::string& text, WhatIfQuestion& question);

}  // namespace ballast::cli
