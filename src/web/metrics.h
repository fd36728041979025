// A host's report as Prometheus text (format 0.0.4): base units, HELP and TYPE for each, VMs by the
// labels vm and uuid. Pure.
#pragma once

#include <string>

#include "model/report.h"

namespace ballast::web {

inline constexpr const char* kMetricsType = "text/plain; version=0.0.4; charset=utf-8";

std::string metrics_text(const HostReport& host, const std::string& version);

}  // namespace ballast::web
