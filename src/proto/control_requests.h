// The requests that carry allocations, as both ends know them: clients write them, answer() reads
// and checks them. Pure functions; any thread.
//
//   what           members
//   spec           "name", "memory_bytes"; and, where its op takes them, those of an allocation
//   allocation     "min_bytes", "limit_bytes", "shares", "balloon_max_bytes"
//   power-on       "salt", "pshare": what {"op":"set"} keeps for the next time
//
// Sizes are whole pages in bytes; "limit_bytes":null is no limit, "balloon_max_bytes":null the
// host's Mem.CtlMaxPercent; "shares" is "low", "normal", "high", or a number, as number or text.
// "salt" is a text (model/salt.h), "pshare" true or false; null is what the VM is started with.
// Members that nobody knows are refused: a promise that was not understood is not kept either.
#pragma once

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"
#include "model/power_on.h"
#include "model/report.h"
#include "model/what_if.h"

namespace ballast::proto {

inline constexpr size_t kWhatIfVmsMax = 1000;               // added and changed ones together
inline constexpr uint64_t kReserveSecondsMax = 7 * 86'400;  // a week

// Written by clients.
nlohmann::json to_json(const VmSpec& spec);  // with its whole allocation
nlohmann::json to_json(const AllocationChange& change);
nlohmann::json to_json(const VmChange& change);
nlohmann::json to_json(const WhatIfQuestion& question);

// Read by answer(). Whatever is wrong is said in a sentence.
Result<std::string> text_member(const nlohmann::json& request, const char* name);
Result<uint64_t> number_member(const nlohmann::json& request, const char* name);
// A valid VM that could start: {"op":"admit",…}, {"op":"reserve",…} or an element of "add".
// `others`: members that are not the spec's.
Result<VmSpec> spec_from_json(const nlohmann::json& request,
                              std::initializer_list<std::string_view> others);
// At least one change: {"op":"set",…}.
Result<VmChange> vm_change_from_json(const nlohmann::json& request);
// At least one change of the allocation: an element of "set".
Result<AllocationChange> change_from_json(const nlohmann::json& request,
                                          std::initializer_list<std::string_view> others);
// The VM that the request names among those of the host.
Result<VmReport> find_vm(const HostReport& host, const nlohmann::json& request);
// What `change` would make of the VM's allocation can be.
Status check_change(const VmReport& vm, const AllocationChange& change);
// Every added VM could start beside the host's and each other, every change is possible.
Result<WhatIfQuestion> question_from_json(const HostReport& host, const nlohmann::json& request);

// Outside text inside our sentences: short, and no control characters.
std::string in_quotes(std::string_view text);

}  // namespace ballast::proto
