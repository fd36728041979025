// The command line of `ballast`, parsed and checked. Plain data; no I/O but the explanation of a
// wrong one.
#pragma once

#include <chrono>
#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "model/power_on.h"
#include "model/vm_spec.h"
#include "model/what_if.h"

namespace ballast::cli {

struct RunArguments {
  VmSpec spec;  // uuid: empty unless given
  std::vector<std::string> qemu;
};
struct LsArguments {};
struct ShowArguments {
  std::string vm;
};
struct WhyArguments {
  std::string vm;
};
struct HostArguments {};
struct EventsArguments {
  bool follow = false;
  uint64_t since = 0;
};
struct SetArguments {
  std::string vm;
  VmChange change;  // of something
};
struct WhatIfArguments {
  WhatIfQuestion question;  // about something; added VMs have no names yet
};
struct OptionsArguments {
  std::string name;  // empty: all of them
  std::optional<std::string> value;
};
struct ReserveArguments {
  VmSpec spec;
  uint64_t seconds = 0;
};
struct UnreserveArguments {
  std::string vm;
};
struct ReclaimArguments {
  std::string vm;
  uint64_t bytes = 0;
};
struct ResumeArguments {
  std::string vm;
};
struct DoctorArguments {
  std::string swap_dir;  // empty: the configured one
};
struct VersionArguments {};
struct TopArguments {
  bool batch = false;
  std::optional<double> delay_seconds;
  uint64_t count = 0;  // 0: until told to stop
};

using Command = std::variant<LsArguments, ShowArguments, WhyArguments, HostArguments,
                             EventsArguments, SetArguments, WhatIfArguments, OptionsArguments,
                             ReserveArguments, UnreserveArguments, ReclaimArguments,
                             ResumeArguments, DoctorArguments, VersionArguments, TopArguments,
                             RunArguments>;

struct Arguments {
  std::string run_dir;
  bool json = false;
  // How long counters are watched to show rates; 0: no rates, and no wait.
  std::chrono::milliseconds interval{500};
  Command command;
};

inline constexpr int kExitUsage = 2;

// Either arguments, or the exit status when there is nothing more to do: help was printed (0), or
// the command line is wrong and `err` was told why (kExitUsage).
std::variant<Arguments, int> parse_arguments(std::vector<std::string> words, std::ostream& out,
                                             std::ostream& err);

}  // namespace ballast::cli
