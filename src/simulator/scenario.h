// Scenario: everything that one run of the simulator varies, drawn from one seed (swarm: many rates
// are zero in a given run, so that combinations differ between runs, not only within one). Plain
// data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "machine/sim/sim_balloon.h"
#include "machine/sim/sim_guest_memory.h"
#include "machine/sim/sim_swap_device.h"
#include "model/options.h"

namespace ballast::simulator {

// Permille weights of the ways in which a guest walks through its memory.
struct Workload {
  uint32_t random = 0;
  uint32_t hot = 0;                     // most accesses to a small set that moves from time to time
  uint32_t sequential = 0;              // sweeps
  uint32_t writes = 500;                // permille of the accesses
  bool boot_storm = false;              // first writes all pages in order
  uint32_t kinds[5] = {1, 1, 1, 1, 1};  // weights of page contents
  uint32_t common = 0;    // permille of a disk image's blocks that the guest has in memory
  uint32_t restored = 0;  // permille of later writes to such pages that are of the image again
};

struct VmPlan {
  uint32_t pages = 1024;
  uint32_t used_pages = 1024;  // the workload stays below this page
  uint32_t min_pages = 0;
  uint32_t vcpus = 1;
  Workload workload;
  uint32_t discards = 0;            // permille of guest steps that start one
  bool unruly_discards = false;     // touches pages whose discard is still under way
  uint32_t spare = 0;               // permille of the used pages that the guest can do without
  std::string share_group;          // empty: shares nothing
  uint64_t mappings_max = 1 << 16;  // that sharing may cost
  uint32_t spite = 0;  // permille of accesses and discards that aim at pages that are shared
  machine::sim::SimBalloonOptions balloon;
  uint64_t starts_at = 0;  // guest accesses of the whole host until the VM arrives
  uint64_t dies_at = 0;    // and until it is killed; 0 = never
  machine::sim::SimMemoryOptions memory;
  machine::sim::SimSwapOptions swap;
};

struct Scenario {
  uint64_t seed = 1;
  uint64_t budget_bytes = 0;
  uint64_t own_bytes = 256 * 1024;
  Options options;
  std::vector<VmPlan> vms;
  uint64_t accesses = 30000;    // of all guests until misbehaviour stops
  uint32_t interleave = 8;      // points between two guest steps inside engine calls, on average
  uint64_t kill_every = 0;      // points between two deaths of the daemon, on average; 0 = none
  uint32_t clean_restarts = 0;  // permille of restarts that are orderly
  uint32_t slow_notices = 0;    // permille of loops in which a VM's death or discards go unseen
  uint64_t balance_every_ms = 50;
  uint32_t worker_weight = 2;  // worker steps per guest burst
  uint32_t burst = 8;          // guest steps per burst
  // Of 10000 rounds: one in which somebody else asks a balloon for another size, its guest reboots
  // or its monitor comes or goes.
  uint32_t balloon_mischief = 0;
  uint32_t pool_frames = 4096;  // of each salt group
  uint32_t hash_bits = 128;     // of a content's hash: with few, unequal contents meet all the time
  uint64_t round_us = 0;        // simulated time that each round takes on top, at most
};

Scenario draw_scenario(uint64_t seed, uint64_t accesses);
std::string describe(const Scenario& scenario);

}  // namespace ballast::simulator
