#include <fmt/format.h>

#include "cli/format.h"
#include "cli/render.h"

namespace ballast::cli {

namespace {

constexpr size_t kContinuation = 21;  // under the severity

Colour colour_of_severity(const std::string& severity) {
  if (severity == "error") return Colour::kRed;
  return severity == "warning" ? Colour::kYellow : Colour::kNone;
}

}  // namespace

std::string render_events(std::span<const Event> events, const Style& style) {
  std::string result;
  for (const Event& event : events) {
    const std::string line =
        fmt::format("{}  {:<7}  {}: {} ({})", format_time(event.unix_ms), printable(event.severity),
                    event.vm.empty() ? "host" : printable(event.vm), printable(event.message),
                    printable(event.kind));
    result +=
        coloured(wrapped(line, kContinuation, style), colour_of_severity(event.severity), style) +
        '\n';
  }
  return result;
}

}  // namespace ballast::cli
