// Words that several reports share.
#include <array>

#include "base/units.h"
#include "cli/format.h"
#include "cli/render.h"

namespace ballast::cli {

const char* meaning_of_host_state(const std::string& state) {
  if (state == "high") return "plenty is free";
  if (state == "clear") return "enough is free";
  if (state == "soft") return "memory is being taken back gently";
  if (state == "hard") return "memory is being compressed and swapped out";
  if (state == "low") return "VMs above their target wait until memory has been taken back";
  return "unknown to this program";
}

const char* meaning_of_balloon_state(const std::string& state) {
  constexpr std::array<std::pair<const char*, const char*>, 11> kMeanings = {{
      {"none", "the VM has no balloon device, or ballooning is forbidden"},
      {"unreachable", "QEMU's monitor does not answer; paging is used instead"},
      {"no-driver",
       "the guest's driver has not shown itself: still booting, or not there; paging "
       "is used instead"},
      {"paused", "the VM is stopped, so its driver cannot work"},
      {"idle", "its size is what is wanted"},
      {"inflating", "the guest is giving memory up"},
      {"deflating", "the guest is getting memory back"},
      {"stuck",
       "the guest does not do what it was asked for; it is asked again later, and paging "
       "takes the rest"},
      {"spared",
       "the guest could not spare more: it was given back what it lacked, and is left "
       "alone for a while"},
      {"full", "it is at its maximum; paging takes the rest"},
      {"foreign",
       "somebody else asked for its size (virsh setmem, another monitor): it is left so until that "
       "is given back, and paging is used instead"},
  }};
  for (const auto& [word, meaning] : kMeanings) {
    if (state == word) return meaning;
  }
  return "unknown to this program";
}

std::string limit_text(uint64_t limit_bytes) {
  return limit_bytes == kNoLimit ? "none" : format_size(limit_bytes);
}

std::string shares_word(const VmReport& vm) {
  const Shares& setting = vm.spec.allocation.shares;
  return setting.level == ShareLevel::kCustom ? "custom" : format_shares(setting);
}

std::string active_detail(const VmReport& vm) {
  if (vm.samples == 0) return "not known yet: all that it has counts as active";
  return fmt::format("+- {} (slow {}, fast {}, now {})", format_size(vm.active_error_bytes),
                     format_size(vm.active_slow_bytes), format_size(vm.active_fast_bytes),
                     format_size(vm.active_now_bytes));
}

std::string balloon_detail(const VmReport& vm) {
  if (vm.balloon_state.empty() || vm.balloon_state == "none") return "no balloon";
  return fmt::format("of at most {}, asked for {}; {}", format_size(vm.balloon_max_bytes),
                     format_size(vm.balloon_target_bytes), printable(vm.balloon_state));
}

std::string tax_text(const HostReport& host) {
  if (host.idle_tax_percent == 0) return "none";
  return fmt::format("{} %, {}", host.idle_tax_percent, printable(host.idle_tax_type));
}

}  // namespace ballast::cli
