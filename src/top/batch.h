// CSV instead of a screen: for each update one line for the host and one for each VM, under one
// header. The columns are always all there are, whatever was chosen for the screen.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>

#include "cli/rates.h"

namespace ballast::top {

// Lines end with a newline. Numbers have a point, texts are quoted when CSV needs it, what is not
// known is empty. Pure.
std::string csv_header();
std::string csv_lines(const cli::Observation& observation, uint64_t unix_ms);

struct BatchOptions {
  std::string run_dir;
  double delay_seconds = 2;
  uint64_t count = 0;  // of updates; 0: until nobody reads any more
};

// Prints until done. A daemon that is not there at first is an error; one that is being restarted
// is waited for. Returns the exit status.
int run_batch(const BatchOptions& options, std::ostream& out, std::ostream& err);

}  // namespace ballast::top
