// Taking over a VM whose daemon died: rebuilds everything that is not in the pmap from the pmap,
// the RAM file and the arena, while the guest runs on or sleeps in its next fault.
//
// Rules, each the counterpart of an order of stores elsewhere:
//   - a page that is present in the RAM file is Resident, whatever else its entry says was stored;
//   - an entry that claims a frame where there is none was discarded by the guest: Untouched, reads
//   as zero;
//   - in-flight marks mean nothing;
//   - nothing is believed: states, slots and arena offsets are checked for range, shape and double
//   use first.
#pragma once

#include "base/result.h"
#include "engine/share/share_group.h"
#include "engine/vm.h"

namespace ballast::engine {

// Fills counts, slots, zip and charges of a Vm made over opened tables. On an error the VM must not
// be served (the caller keeps its descriptors for a post-mortem); nothing was changed in the tables
// then.
Status take_over_tables(Vm& vm, ShareGroup* share);

}  // namespace ballast::engine
