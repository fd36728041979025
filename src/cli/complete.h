// What a shell may offer next: `ballast complete WORD...`, which the completions of all shells ask.
// Hidden from people, and silent about whatever goes wrong.
#pragma once

#include <functional>
#include <iosfwd>
#include <string>
#include <vector>

namespace ballast::cli {

inline constexpr const char* kCompleteCommand = "complete";

// What only the daemon knows; each may be empty.
struct Names {
  std::function<std::vector<std::string>()> vms;
  std::function<std::vector<std::string>()> reservations;
};

// `words`: those after "ballast", the last one unfinished and maybe empty. The candidates that
// begin with it; one that ends in '=' goes on. None: the shell may offer files.
std::vector<std::string> completions(const std::vector<std::string>& words, const Names& names);

// One a line; names from the daemon that --run-dir among the words, or the environment, means.
void print_completions(const std::vector<std::string>& words, std::ostream& out);

}  // namespace ballast::cli
