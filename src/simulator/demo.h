// The demo on the simulated machine: four VMs of 256 MB on 512 MB, verifying their memory, in real
// time.
#pragma once

#include <cstdint>
#include <string>

namespace ballast::simulator {

struct DemoRequest {
  uint32_t seconds = 60;
  uint32_t kill_daemon_every_seconds = 0;  // 0 = never
  std::string json_file;                   // empty = none
};

// Exit code: 0 if no checksum error occurred and the budget held.
int run_demo(const DemoRequest& request);

}  // namespace ballast::simulator
