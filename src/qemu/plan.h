// What ballast-qemu does to a QEMU command line so that ballastd can own the VM's memory:
//   guest RAM    becomes a shared memfd: an object added, or the user's own memory-backend-ram
//                converted
//   accelerator  KVM where it can run a guest kernel, else TCG; unless the user chose
//   balloon      a virtio-balloon with free-page reporting and deflate-on-oom; unless the user has
//                one
//   QMP          a socket for the daemon, beside whatever monitors the user has
//   -m -uuid -name made explicit; a UUID that is made up here is the guest's alone: it says nothing
//                of who the VM is, so the daemon is not told
// Everything else stays as written and in order. Capability probes pass untouched. Pure but for the
// questions in Host.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "qemu/kvm_probe.h"
#include "qemu/refusals.h"

namespace ballast::qemu {

// BALLAST_* variables as found; unset ones are empty.
struct Environment {
  std::string run_dir;
  std::string socket;
  std::string name;
  std::string memory_bytes;  // set by `ballast run --memory`
  std::string min_bytes;
  std::string uuid;
  std::string limit_bytes;
  std::string shares;
  std::string balloon_max_bytes;
  std::string salt;
  std::string pshare;  // "0", "1"
};

struct Host {
  HostFiles files;
  std::function<KvmProbe()> probe_kvm;  // asked only when the user left the choice
  std::function<std::string()> new_uuid;
  int pid = 0;  // of the QEMU to be
};

struct Plan {
  bool managed = false;  // false: a probe; run QEMU with these arguments and nothing else
  std::vector<std::string> arguments;
  std::vector<std::pair<std::string, std::string>> environment;  // for the agent
  std::string qmp_directory;                                     // to be made before QEMU starts
  std::string note;  // what the operator should know; empty: nothing
};

Result<Plan> make_plan(const std::vector<std::string>& arguments, const Environment& environment,
                       const Host& host);

}  // namespace ballast::qemu
