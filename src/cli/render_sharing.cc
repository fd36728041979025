// Page sharing as text: who shares with whom, what it saves, what waits for the next power-on.
#include <algorithm>

#include "base/units.h"
#include "cli/format.h"
#include "cli/render.h"
#include "model/salt.h"

namespace ballast::cli {

namespace {

uint64_t other_members(const VmReport& vm, const HostReport& host) {
  return static_cast<uint64_t>(std::ranges::count_if(host.vms, [&](const VmReport& other) {
    return other.spec.name != vm.spec.name && other.spec.share_group == vm.spec.share_group;
  }));
}

std::string vms_text(uint64_t count, const char* other) {
  return fmt::format("{} {}VM{}", count, other, count == 1 ? "" : "s");
}

// "salt web, page sharing off"; what is not kept is as the VM is started.
std::string kept_text(const PowerOn& kept) {
  if (kept == PowerOn{}) return "salt and page sharing as it is started";
  return fmt::format(
      "{}, page sharing {}", kept.salt.empty() ? "salt as it is started" : "salt " + kept.salt,
      kept.sharing == PageSharing::kAsStarted ? "as it is started" : format_sharing(kept.sharing));
}

bool is_worth_a_row(const ShareGroupReport& group) {
  return group.vms > 1 || group.shared_bytes > 0 || group.common_bytes > 0;
}

}  // namespace

std::string group_words(const std::string& group) {
  switch (kind_of_group(group)) {
    case GroupKind::kNone:
      return "no salt group";
    case GroupKind::kAll:
      return "the salt group of all VMs";
    case GroupKind::kSalt:
      return fmt::format("salt group {}", name_in_group(group));
    case GroupKind::kUuid:
      return "the salt group of its UUID";
    case GroupKind::kOneVm:
      return "a salt group of its own";
  }
  return group;
}

std::string membership_text(const VmReport& vm, const HostReport& host) {
  // Its setting is what it was started with; whether that was in force, only the group tells after
  // a take-over.
  if (vm.spec.share_group.empty()) return "off: it was powered on so";
  const uint64_t others = other_members(vm, host);
  return fmt::format("in {}, {}", group_words(vm.spec.share_group),
                     others == 0 ? "alone" : "with " + vms_text(others, "other "));
}

std::string sharing_sentence(const VmReport& vm, const HostReport& host) {
  const uint64_t others = other_members(vm, host);
  if (vm.shared_bytes == 0) {
    return (vm.spec.share_group.empty() ? "" : "nothing yet: it is ") + membership_text(vm, host);
  }
  const std::string group = group_words(vm.spec.share_group);
  const std::string with =
      others == 0 ? fmt::format("shared with each other (it is alone in {})", group)
                  : fmt::format("shared with {} of {}", vms_text(others, "other "), group);
  return fmt::format("{} of its pages are {}: its part of the frames is {}, so {} are saved",
                     format_size(vm.shared_bytes), with, format_size(vm.share_part_bytes),
                     format_size(saving_bytes(vm)));
}

std::string waiting_text(const VmReport& vm) {
  if (vm.next_share_group == vm.spec.share_group) return "";
  const std::string what =
      vm.next_share_group.empty() ? "share no pages" : "be in " + group_words(vm.next_share_group);
  return fmt::format("it will {} when it is powered on next", what);
}

std::string render_power_on(const VmReport& vm) {
  const std::string now = group_words(vm.spec.share_group);
  const std::string effect =
      vm.next_share_group == vm.spec.share_group
          ? fmt::format("it stays in {}", now)
          : fmt::format("from {} to {}", now, group_words(vm.next_share_group));
  return fmt::format("{}: {}; takes effect when {} is powered on next ({})\n",
                     printable(vm.spec.name), printable(kept_text(vm.power_on)),
                     printable(vm.spec.name), printable(effect));
}

std::string render_share_groups(const HostReport& host, const Style& style) {
  if (host.share_groups.empty()) return "";
  Table table(
      {{"  GROUP", Align::kLeft, true}, {"VMS"}, {"COMMON"}, {"SHARED"}, {"SAVING"}, {"HINTS"}});
  uint64_t saved = 0;
  uint64_t silent = 0;
  bool has_rows = false;
  for (const ShareGroupReport& group : host.share_groups) {
    saved += saving_bytes(group);
    silent += group.vms == 1 && !is_worth_a_row(group) ? 1 : 0;
    if (!is_worth_a_row(group)) continue;
    has_rows = true;
    table.add_row({{"  " + group.name},
                   {std::to_string(group.vms)},
                   {compact_size(group.common_bytes)},
                   {compact_size(group.shared_bytes)},
                   {compact_size(saving_bytes(group))},
                   {compact_count(group.hints)}});
  }
  std::string result = fmt::format("Page sharing saves {}; its tables take {}\n",
                                   format_size(saved), format_size(host.share_tables_bytes));
  if (has_rows) result += table.render(style);
  if (silent == 0) return result;
  return result + fmt::format("  {} alone in a salt group and {} nothing yet\n",
                              silent == 1 ? "1 VM is" : fmt::format("{} VMs are each", silent),
                              silent == 1 ? "shares" : "share");
}

}  // namespace ballast::cli
