// LogOutput: where log lines go. To journald with fields when stderr is its stream (a service of
// systemd), else to stderr as text. Any thread.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "machine/vm_control.h"

namespace ballast::daemon {

const char* name_of(machine::Severity severity);  // "info", "warning", "error"

struct LogLine {
  std::chrono::system_clock::time_point time;
  machine::Severity severity;
  std::string_view vm;  // empty: of the host
  std::string_view kind;
  std::string_view message;
};

// "2026-11-21 20:30:00 info    web1: admitted …"
std::string log_text(const LogLine& line);
// "MESSAGE=web1: …", "PRIORITY=6", "KIND=vm.admitted" and, of a VM, "VM=web1".
std::vector<std::string> journal_fields(const LogLine& line);
// Whether the descriptor is what JOURNAL_STREAM ("device:inode") names; it may be null.
bool is_journal_stream(int fd, const char* journal_stream);

class LogOutput {
 public:
  LogOutput();  // looks at stderr once
  void write(const LogLine& line) const;

 private:
  bool to_journal_;
};

}  // namespace ballast::daemon
