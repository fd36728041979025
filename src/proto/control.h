// The control protocol: what is asked on RUN_DIR/control.sock, and how a request becomes an answer.
//
// Newline-delimited JSON. A request is one object on one line of at most kRequestBytesMax bytes;
// its answer is one line, {"ok":true,…} or {"ok":false,"error":"…"}. A connection may carry any
// number of requests, one after another.
//
//   {"op":"version"}                {"ok":true,"version":"0.1.0","protocol":1,"pid":N}
//   {"op":"ls"}                     {"ok":true,"vms":[VmReport…]}
//   {"op":"show","vm":"web1"}       {"ok":true,"vm":VmReport}
//   {"op":"host"}                   {"ok":true,"host":HostReport}, with its "vms"
//   {"op":"events","since":N}       {"ok":true,"events":[Event…],"last":L}: sequence > N, oldest
//                                   first, at most kEventsMax at once: ask again with since = the
//                                   last one's sequence. L is the newest sequence there is, so
//                                   L < N tells that the daemon was restarted
//   {"op":"resume","vm":"web1"}     {"ok":true}: tries a paused VM again
//   {"op":"reclaim","vm":"web1","bytes":N}
//                                   {"ok":true}: takes so much memory from the VM now, whatever
//                                   its target, not below its min; returns before it is done
//   {"op":"admit",SPEC}             {"ok":true}, or why such a VM would be refused now; promises
//                                   nothing
//   {"op":"reserve",SPEC,"seconds":N}
//                                   {"ok":true}: memory is promised to a VM that is not there yet,
//                                   for 1 … kReserveSecondsMax; whoever starts under that name
//                                   uses it. Of the SPEC: name, memory_bytes, min_bytes. Repeated,
//                                   it replaces the earlier one
//   {"op":"unreserve","name":"db"}  {"ok":true}
//   {"op":"set","vm":"web1",CHANGE,POWER-ON}
//                                   {"ok":true,"vm":VmReport}: the allocation is another one from
//                                   now on, salt and page sharing from the VM's next power-on on;
//                                   all of the change, or nothing
//   {"op":"whatif","add":[{SPEC}…],"set":[{"vm":"web1",CHANGE}…]}
//                                   {"ok":true,"whatif":WhatIfAnswer}: what targets would be;
//                                   changes nothing
//   {"op":"options"}                {"ok":true,"options":[OptionReport…]}
//   {"op":"options","name":O}       {"ok":true,"options":[OptionReport]}
//   {"op":"options","name":O,"value":"text"}
//                                   {"ok":true,"option":OptionReport,"note":"…"}: sets it; the note
//                                   says why it will not survive a restart, or is empty
//
// SPEC, CHANGE and POWER-ON: control_requests.h.
//
// Who may only look is refused set, reclaim, resume, reserve, unreserve, and options with a value.
//
// Requests come from outside: whatever is wrong with one is said in its answer. Nothing here throws
// or blocks.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/options.h"
#include "model/power_on.h"
#include "model/report.h"
#include "model/vm_spec.h"
#include "model/what_if.h"

namespace ballast::proto {

inline constexpr int kControlProtocolVersion = 1;
inline constexpr size_t kRequestBytesMax = size_t{64} << 10;
inline constexpr size_t kVmNameBytesMax = 64;
inline constexpr size_t kEventsMax = 500;

// What the daemon can do for a client. All are called by answer(), on its thread.
struct ControlService {
  std::string version;
  std::function<HostReport()> host;
  std::function<std::vector<Event>(uint64_t since)> events;  // sequence > since, oldest first
  std::function<uint64_t()> last_event;                      // the newest sequence; 0: none yet
  std::function<Status(const std::string& vm)> resume;       // called for known VMs only
  std::function<Status(const std::string& vm, uint64_t bytes)> reclaim;  // known VMs only
  std::function<Status(const VmSpec&)> admit;                            // a valid one
  std::function<Status(const VmSpec&, uint64_t seconds)> reserve;        // a valid one
  std::function<Status(const std::string& vm)> unreserve;
  // Known VMs only; the allocation that results is valid.
  std::function<Status(const std::string& vm, const VmChange&)> set;
  // Known VMs, valid changes; valid new VMs of other names.
  std::function<WhatIfAnswer(const WhatIfQuestion&)> what_if;
  std::function<Options()> options;
  // Known names, allowed values. The note: why it will not survive a restart, or empty.
  std::function<Result<std::string>(std::string_view name, std::string_view value)> set_option;
};

enum class Access { kLook, kChange };  // kChange: both

// The answer to one request. A function that the service lacks makes its ops answer "not
// supported".
nlohmann::json answer(const nlohmann::json& request, const ControlService& service,
                      Access access = Access::kChange);

nlohmann::json error_answer(std::string_view message);

// [A-Za-z0-9._-], 1 to 64 of them, not beginning with a dash or a dot.
Status check_vm_name(std::string_view name);
// The name, memory > 0 in whole pages, and an allocation that can be.
Status check_vm_spec(const VmSpec& spec);

}  // namespace ballast::proto
