// ballast-libvirt-hook: installed as /etc/libvirt/hooks/qemu.d/ballast. libvirt calls it
//   ballast DOMAIN prepare|release|… begin|end -     with the domain's XML on stdin
// and does not start a domain for which it fails. See docs/libvirt.md.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>

#include "libvirt/domain.h"
#include "proto/run_dir.h"

namespace {

using namespace ballast;

constexpr const char* kUsage =
    "usage: ballast-libvirt-hook DOMAIN OPERATION SUB-OPERATION EXTRA < DOMAIN-XML\n"
    "libvirt runs it: install it as /etc/libvirt/hooks/qemu.d/ballast, and restart libvirtd.\n";

// libvirt shows it to who starts the domain.
int fail(const std::string& message) {
  std::fprintf(stderr, "ballast: %s\n", message.c_str());
  return 1;
}

Result<std::string> read_all(int fd) {
  std::string text;
  char buffer[65536];
  for (;;) {
    const ssize_t got = read(fd, buffer, sizeof buffer);
    if (got == 0) return text;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error("stdin");
    text.append(buffer, static_cast<size_t>(got));
  }
}

// Whole or not at all: ballast-qemu may run in the next instant.
Status write_file(const std::string& path, const std::string& text) {
  const std::string draft = path + ".new";
  const int fd = open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (fd < 0) return system_error(draft);
  const bool written = write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  const int error = errno;
  close(fd);
  if (!written) return system_error(draft, error);
  if (rename(draft.c_str(), path.c_str()) != 0) return system_error(path);
  return Done{};
}

Status leave_parameters(const libvirt::Domain& domain) {
  const std::string run_dir = proto::default_run_dir();
  const std::string directory = proto::libvirt_directory(run_dir);
  if (mkdir(directory.c_str(), 0755) != 0 && errno != EEXIST) {
    return Error{system_error(directory).message + "; is ballastd running?"};
  }
  return write_file(directory + '/' + domain.uuid, libvirt::format_parameters(domain));
}

}  // namespace

int main(int count, char** words) {
  if (count < 4) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  const std::string operation = std::string(words[2]) + ' ' + words[3];
  const bool starts = operation == "prepare begin";
  if (!starts && operation != "release end") return 0;
  const auto xml = read_all(STDIN_FILENO);
  if (!xml) return fail(xml.error().message);
  const auto domain = libvirt::parse_domain(*xml);
  if (!starts) {
    if (domain && domain->managed) {
      unlink((proto::libvirt_directory(proto::default_run_dir()) + '/' + domain->uuid).c_str());
    }
    return 0;  // a domain that is gone cannot be refused any more
  }
  if (!domain) return fail(domain.error().message);
  if (!domain->managed) return 0;
  const Status left = leave_parameters(*domain);
  return left ? 0 : fail(left.error().message);
}
