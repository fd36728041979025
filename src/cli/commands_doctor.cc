#include <ostream>

#include "cli/commands_parts.h"
#include "doctor/doctor.h"

namespace ballast::cli {

int doctor(const DoctorArguments& asked, const Arguments& arguments, const Output& output) {
  const doctor::HostFacts facts = doctor::probe(arguments.run_dir, asked.swap_dir);
  const auto findings = doctor::examine(facts);
  output.out << (arguments.json ? doctor::to_json_text(findings)
                                : doctor::to_text(findings, output.style.colours))
             << std::flush;
  return doctor::any_fails(findings) ? 1 : 0;
}

}  // namespace ballast::cli
