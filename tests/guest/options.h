// The verifier's command line.
#pragma once

#include <stdbool.h>

#include "page_content.h"

typedef struct {
  ContentSpec content;
  unsigned mib;
  unsigned write_percent;
  unsigned hot_percent;  // share of the pages that is hot
  unsigned hot_access_percent;
  unsigned sweep_percent;
  unsigned pause_us;
  unsigned seconds;  // of checking, after the fill; 0 = until SIGTERM
  bool no_final_sweep;
  bool selftest;
  bool dump;
  bool touch;
  const char* inject;  // a name that damage_kind() returns, or NULL
} Options;

// Wrong usage is explained on stderr and ends the program with status 2.
Options parse_options(int argc, char** argv);
