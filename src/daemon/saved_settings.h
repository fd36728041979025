// What an operator set at run time and what must outlive the daemon.
//
//   STATE_DIR/options.toml     host options, in the form of the configuration file; read after it
//   RUN_DIR/settings/NAME      one running VM's allocation; gone with the VM, or with the host's
//   boot
//   STATE_DIR/power-on/NAME    what a VM is to be powered on with; stays until it is taken back
//
// Files are replaced as a whole. Main thread only.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "base/result.h"
#include "model/allocation.h"
#include "model/options.h"
#include "model/power_on.h"
#include "model/vm_spec.h"

namespace ballast::daemon {

class SavedOptions {
 public:
  explicit SavedOptions(const std::string& state_dir) : path_(state_dir + "/options.toml") {}
  // Applies what was saved over `options`. A file that makes no sense is refused with its line.
  Status load(Options& options);
  Status save(std::string_view name, std::string_view value);
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::map<std::string, std::string, std::less<>> set_;
};

class SavedAllocations {
 public:
  explicit SavedAllocations(const std::string& run_dir) : directory_(run_dir + "/settings") {}
  // None, or none that makes sense for a VM of this size: it keeps what it was started with.
  std::optional<Allocation> load(const std::string& vm, uint64_t configured_bytes) const;
  Status save(const std::string& vm, const Allocation& allocation) const;
  void remove(const std::string& vm) const;

 private:
  std::string path_of(const std::string& vm) const { return directory_ + "/" + vm; }
  const std::string directory_;
};

// A VM is known by its name and UUID. One that was started without a UUID is known by its name
// alone: what is kept of it is for whichever VM comes under that name. Files are read once, at the
// start: reports ask for every VM.
class SavedPowerOn {
 public:
  explicit SavedPowerOn(const std::string& state_dir);
  // Nothing, where nothing is kept for this VM, or nothing that makes sense.
  PowerOn load(const VmSpec& vm) const;
  // What says nothing is not kept. Nothing has changed where it cannot be written.
  Status save(const VmSpec& vm, const PowerOn& power_on);

 private:
  struct Kept {
    std::string uuid;
    PowerOn power_on;
  };
  const std::string directory_;
  std::map<std::string, Kept> kept_;  // by name
};

}  // namespace ballast::daemon
