// Asks a daemon on its control socket and waits for the answer, for a bounded time.
//
// Blocking; any thread. Errors are sentences for the operator: nobody answers, no permission, no
// answer in time, or what the daemon itself said.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>

#include "base/result.h"

namespace ballast::proto {

inline constexpr std::chrono::milliseconds kCallTimeout{5000};

// The answer's object when the daemon said "ok"; its "error" as an Error otherwise.
// Error::system_error is set exactly when the daemon could not be reached.
Result<nlohmann::json> call(const std::string& run_dir, const nlohmann::json& request,
                            std::chrono::milliseconds timeout = kCallTimeout);

}  // namespace ballast::proto
