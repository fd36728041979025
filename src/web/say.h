// How this part tells the operator something: it ends in the daemon's event log. Any thread.
#pragma once

#include <functional>
#include <string>

namespace ballast::web {

enum class Severity { kInfo, kWarning };
// `kind`: a stable dotted word.
using Say = std::function<void(Severity severity, std::string kind, std::string message)>;

}  // namespace ballast::web
