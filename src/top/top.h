// `ballast top`: the memory of this host and its VMs on a screen that follows it, or as CSV.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>

namespace ballast::top {

struct TopOptions {
  std::string run_dir;
  bool batch = false;
  std::optional<double> delay_seconds;  // else as kept in top.toml, or the default
  uint64_t count = 0;                   // of updates; 0: until told to stop
};

// Returns the program's exit status.
int run_top(const TopOptions& options, std::ostream& out, std::ostream& err);

}  // namespace ballast::top
