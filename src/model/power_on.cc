#include "model/power_on.h"

#include "model/salt.h"

namespace ballast {

PowerOn apply(PowerOn kept, const PowerOnChange& change) {
  kept.salt = change.salt.value_or(kept.salt);
  kept.sharing = change.sharing.value_or(kept.sharing);
  return kept;
}

VmSpec apply(VmSpec started, const PowerOn& kept) {
  if (!kept.salt.empty()) started.salt = kept.salt;
  if (kept.sharing != PageSharing::kAsStarted) {
    started.share_enable = kept.sharing == PageSharing::kOn;
  }
  return started;
}

Result<PageSharing> parse_sharing(std::string_view text) {
  for (const auto one : {PageSharing::kAsStarted, PageSharing::kOn, PageSharing::kOff}) {
    if (text == format_sharing(one)) return one;
  }
  return Error{
      fmt::format("page sharing '{}' is refused: on, off or default (as the VM is started) is "
                  "needed",
                  text.substr(0, 40))};
}

std::string format_sharing(PageSharing sharing) {
  switch (sharing) {
    case PageSharing::kAsStarted:
      return "default";
    case PageSharing::kOn:
      return "on";
    case PageSharing::kOff:
      return "off";
  }
  return "default";
}

std::string next_share_group(const VmSpec& now, const VmSpec& started, const PowerOn& kept,
                             uint32_t force_salting) {
  // A VM that is alone by a random text will be so by another one: no news.
  const std::string_view name = name_in_group(now.share_group);
  const bool is_alone = kind_of_group(now.share_group) == GroupKind::kOneVm && !name.empty();
  return share_group(apply(started, kept), force_salting, is_alone ? name : "new");
}

}  // namespace ballast
