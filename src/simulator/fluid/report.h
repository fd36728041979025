// The comparison that `ballast-sim --policy` prints: rules on the same recorded demand.
#pragma once

#include <cstdint>
#include <string>

namespace ballast::simulator::fluid {

struct PolicyRequest {
  uint64_t seed = 1;
  std::string scenario;   // empty: all
  std::string rule;       // empty: all
  std::string json_file;  // empty: a table on stdout only; "-": JSON on stdout instead
};

// Exit code: 0, or 64 when the request names something that is not there.
int compare_rules(const PolicyRequest& request);

}  // namespace ballast::simulator::fluid
