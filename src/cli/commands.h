// The subcommands that ask the daemon: each prints to `out` and returns an exit status; errors go
// to `err`.
#pragma once

#include <iosfwd>

#include "cli/arguments.h"
#include "cli/table.h"

namespace ballast::cli {

// Where a command's words go, and how they may look there.
struct Output {
  std::ostream& out;
  std::ostream& err;
  Style style;
};

// Status of the program: 0, or 1 after an error that was printed.
int execute(const Arguments& arguments, const Output& output);

}  // namespace ballast::cli
