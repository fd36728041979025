// Runs another program and takes what it prints: bounded in time and size, no shell.
#pragma once

#include <string>
#include <vector>

namespace ballast::doctor {

struct Ran {
  bool started = false;
  int status = -1;     // exit status; −1: killed, or it took longer than 5 s
  std::string output;  // stdout and stderr, the first 1 MB
};

Ran run_program(const std::vector<std::string>& words);

// In PATH; empty: nowhere.
std::string find_program(const std::string& name);

}  // namespace ballast::doctor
