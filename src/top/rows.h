// The lines of the table: VMs in the chosen order, then what else takes or is promised memory.
// Pure.
#pragma once

#include <vector>

#include "cli/rates.h"
#include "top/fields.h"
#include "top/settings.h"

namespace ballast::top {

// They point into the observation.
std::vector<Row> rows_of(const cli::Observation& observation, const Settings& settings);

// "": nothing is the matter with the VM; else in a few words what is.
std::string trouble_of(const Row& row);

}  // namespace ballast::top
