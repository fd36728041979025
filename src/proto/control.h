// The control protocol: what is asked on RUN_DIR/control.sock, and how a request becomes an answer.
//
// Newline-delimited JSON. A request is one object on one line of at most kRequestBytesMax bytes;
// its answer is one line, {"ok":true,…} or {"ok":false,"error":"…"}. A connection may carry any
// number of requests, one after another.
//
//   {"op":"version"}                {"ok":true,"version":"0.1.0","protocol":1,"pid":N}
//   {"op":"ls"}                     {"ok":true,"vms":[VmReport…]}
//   {"op":"show","vm":"web1"}       {"ok":true,"vm":VmReport}
//   {"op":"host"}                   {"ok":true,"host":HostReport}            with its "vms"
//   {"op":"events","since":N}       {"ok":true,"events":[Event…],"last":L}   sequence > N, oldest
//   first, at most
//                                   kEventsMax at once: ask again with since = the last one's
//                                   sequence; L is the newest sequence there is, so L < N tells
//                                   that the daemon was restarted
//   {"op":"resume","vm":"web1"}     {"ok":true}                              tries a paused VM
//   again
//   {"op":"reclaim","vm":"web1","bytes":N}
//                                   {"ok":true}                              takes so much memory
//   from the VM now, whatever its target, not below its min; returns before it is done
//   {"op":"admit","name":"web1","memory_bytes":N,"min_bytes":N}
//                                   {"ok":true}, or why such a VM would be refused now; promises
//                                   nothing
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
#include "model/report.h"
#include "model/vm_spec.h"

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
  std::function<Status(const VmSpec&)> admit;                            // name and sizes are valid
};

// The answer to one request. A function that the service lacks makes its ops answer "not
// supported".
nlohmann::json answer(const nlohmann::json& request, const ControlService& service);

nlohmann::json error_answer(std::string_view message);

// [A-Za-z0-9._-], 1 to 64 of them, not beginning with a dash or a dot.
Status check_vm_name(std::string_view name);
// The name, and sizes that can be: configured > 0 in whole pages, min ≤ configured.
Status check_vm_spec(const VmSpec& spec);

}  // namespace ballast::proto
