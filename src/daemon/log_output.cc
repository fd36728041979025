#include "daemon/log_output.h"

#include <fmt/chrono.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <syslog.h>
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace ballast::daemon {

namespace {

int priority_of(machine::Severity severity) {
  switch (severity) {
    case machine::Severity::kInfo:
      return LOG_INFO;
    case machine::Severity::kWarning:
      return LOG_WARNING;
    case machine::Severity::kError:
      return LOG_ERR;
  }
  return LOG_ERR;
}

std::string with_vm(const LogLine& line) {
  return fmt::format("{}{}{}", line.vm, line.vm.empty() ? "" : ": ", line.message);
}

}  // namespace

const char* name_of(machine::Severity severity) {
  switch (severity) {
    case machine::Severity::kInfo:
      return "info";
    case machine::Severity::kWarning:
      return "warning";
    case machine::Severity::kError:
      return "error";
  }
  return "error";
}

std::string log_text(const LogLine& line) {
  return fmt::format("{:%Y-%m-%d %H:%M:%S} {:7} {}", fmt::gmtime(line.time), name_of(line.severity),
                     with_vm(line));
}

std::vector<std::string> journal_fields(const LogLine& line) {
  std::vector<std::string> fields = {
      "MESSAGE=" + with_vm(line), fmt::format("PRIORITY={}", priority_of(line.severity)),
      fmt::format("KIND={}", line.kind), "SYSLOG_IDENTIFIER=ballastd"};
  if (!line.vm.empty()) fields.push_back(fmt::format("VM={}", line.vm));
  return fields;
}

bool is_journal_stream(int fd, const char* journal_stream) {
  if (journal_stream == nullptr) return false;
  unsigned long long device = 0;
  unsigned long long inode = 0;
  struct stat info {};
  return std::sscanf(journal_stream, "%llu:%llu", &device, &inode) == 2 && fstat(fd, &info) == 0 &&
         info.st_dev == device && info.st_ino == inode;
}

LogOutput::LogOutput()
    : to_journal_(is_journal_stream(STDERR_FILENO, std::getenv("JOURNAL_STREAM"))) {}

void LogOutput::write(const LogLine& line) const {
  if (to_journal_) {
    const std::vector<std::string> fields = journal_fields(line);
    std::vector<iovec> parts;
    parts.reserve(fields.size());
    for (const std::string& field : fields) {
      parts.push_back({const_cast<char*>(field.data()), field.size()});
    }
    if (sd_journal_sendv(parts.data(), static_cast<int>(parts.size())) == 0) return;
  }
  fmt::print(stderr, "{}\n", log_text(line));
}

}  // namespace ballast::daemon
