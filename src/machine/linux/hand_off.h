// HandOff: the text of an agent's hand-off (proto/agent_wire.h, step 1), parsed and validated.
//
// Pure: text in, values or a refusal out; the descriptors themselves are judged by attach.h. The
// text comes from a process that is not trusted: every number is checked here, so that later
// arithmetic cannot overflow. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/vm_spec.h"

namespace ballast::linux_machine {

struct HandOffRegion {
  uint64_t address = 0;  // host virtual; page-aligned, like the next two
  uint64_t bytes = 0;
  uint64_t file_offset = 0;
  uint32_t ram_file = 0;  // index among the hand-off's RAM files, from 0
};

struct HandOff {
  VmSpec spec;
  std::string qmp_path;                // empty: none
  std::vector<HandOffRegion> regions;  // host ranges do not overlap, nor do ranges of one RAM file
  uint32_t ram_files = 0;
  bool has_kept = false;  // tables, arena and swap came back
  bool has_pool = false;  // and the share pool
  // Index of each descriptor in the message.
  uint32_t discards_at = 0;
  uint32_t tables_at = 0;
  uint32_t arena_at = 0;
  uint32_t swap_at = 0;
  uint32_t pool_at = 0;
  // False while QEMU still has regions to map: another hand-off will follow.
  bool is_complete() const;
};

// `descriptors`: how many came with the text.
Result<HandOff> parse_hand_off(std::string_view text, size_t descriptors);

}  // namespace ballast::linux_machine
