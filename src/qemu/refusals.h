// What Ballast cannot run: options of QEMU that pin guest RAM, share it with other processes, or
// put it where pages cannot be taken back one by one. Each refusal names the option as it was
// written and what to use instead.
#pragma once

#include <functional>
#include <string>

#include "base/result.h"
#include "qemu/command_line.h"

namespace ballast::qemu {

enum class FileSystem { kTmpfs, kHugetlbfs, kOther, kUnknown };

// Questions about the host, so that tests can answer them.
struct HostFiles {
  std::function<FileSystem(const std::string& path)> file_system;
  std::function<Result<std::string>(const std::string& path)> read;
};
HostFiles real_host_files();

// The first objection to this command line.
Status find_refusal(const CommandLine& line, const HostFiles& files);

}  // namespace ballast::qemu
