// The command line of `ballast`, parsed and checked. Plain data; no I/O but the explanation of a
// wrong one.
#pragma once

#include <chrono>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <variant>
#include <vector>

#include "model/vm_spec.h"

namespace ballast::cli {

struct RunArguments {
  VmSpec spec;  // uuid: empty unless given
  std::vector<std::string> qemu;
};
struct LsArguments {};
struct ShowArguments {
  std::string vm;
};
struct HostArguments {};
struct EventsArguments {
  bool follow = false;
  uint64_t since = 0;
};
struct ResumeArguments {
  std::string vm;
};
struct VersionArguments {};

struct Arguments {
  std::string run_dir;
  bool json = false;
  // How long counters are watched to show rates; 0: no rates, and no wait.
  std::chrono::milliseconds interval{500};
  std::variant<LsArguments, ShowArguments, HostArguments, EventsArguments, ResumeArguments,
               VersionArguments, RunArguments>
      command;
};

inline constexpr int kExitUsage = 2;

// Either arguments, or the exit status when there is nothing more to do: help was printed (0), or
// the command line is wrong and `err` was told why (kExitUsage).
std::variant<Arguments, int> parse_arguments(std::vector<std::string> words, std::ostream& out,
                                             std::ostream& err);

}  // namespace ballast::cli
