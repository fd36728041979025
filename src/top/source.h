// Asks the daemon for what `ballast top` shows. Blocking, for a second at most.
#pragma once

#include <string>

#include "base/result.h"
#include "top/view.h"

namespace ballast::top {

class HostReader {
 public:
  // The present state of the host; the last one becomes what rates are taken from, unless the
  // daemon was away since.
  Status update(std::optional<cli::Observation>& observation, const std::string& run_dir);

 private:
  bool was_away_ = false;
};

// Brings the last events of the expanded VMs up to date.
class EventReader {
 public:
  Status update(View& view, const std::string& run_dir);

 private:
  uint64_t since_ = 0;
};

}  // namespace ballast::top
