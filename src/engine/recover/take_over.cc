#include "engine/recover/take_over.h"

#include <vector>

namespace ballast::engine {

namespace {

Error damaged(const Vm& vm, PageIndex page, const char* what) {
  return Error{
      fmt::format("the page table that an earlier daemon left for {} is damaged: page {} {}",
                  vm.spec.name, page.raw(), what)};
}

// What an entry becomes once the RAM file was looked at. The state machine does not apply between
// two daemons.
PageEntry reconciled(PageEntry old, bool present) {
  // The mapping is the truth, whatever lies in the RAM file.
  if (is_away(old.state())) return old.with_in_flight(false);
  if (present) {
    // A copy in swap may still be right: the checksum will tell. Compressed copies are simply
    // dropped.
    const auto slot = old.slot();
    return slot ? PageEntry::with_slot(PageState::kResident, *slot)
                : PageEntry::plain(PageState::kResident);
  }
  if (has_frame(old.state())) return PageEntry::plain(PageState::kUntouched);
  return old.with_in_flight(false);
}

// Bits that no entry of this state has: damage, or another layout.
bool has_stray_bits(PageEntry entry) {
  const uint64_t word = entry.word();
  switch (entry.state()) {
    case PageState::kUntouched:
    case PageState::kZero:
    case PageState::kBallooned:
      return word >> 5 != 0;
    case PageState::kCompressed:
      return (word >> 18 & 0x3f) != 0;
    case PageState::kResident:
    case PageState::kSealed:
    case PageState::kSwapped:
    case PageState::kLost:
    case PageState::kShared:
    case PageState::kLoose:
      return (word >> 5 & 0x7ffff) != 0 || word >> 24 > uint64_t{1} << 32;
  }
  return true;
}

Status check_entry(const Vm& vm, PageIndex page, PageEntry entry) {
  if ((entry.word() & 0xf) >= kPageStates) return damaged(vm, page, "has an unknown state");
  if (entry.state() == PageState::kSwapped && !entry.slot())
    return damaged(vm, page, "is swapped without a slot");
  if (is_away(entry.state()) && entry.word() >> 24 == 0)
    return damaged(vm, page, "is shared without a frame");
  if (has_stray_bits(entry)) return damaged(vm, page, "carries bits that its state has no use for");
  return Done{};
}

// Claims what the reconciled entry refers to. A second claim of one slot means damage.
Status claim(Vm& vm, ShareGroup* share, PageIndex page, PageEntry entry) {
  if (is_away(entry.state())) {
    if (share == nullptr || !share->claim(entry.frame()))
      return damaged(vm, page, "names a shared frame that its group does not have");
  } else if (entry.state() == PageState::kCompressed) {
    if (!vm.zip.claim(page, entry.arena_offset(), entry.compressed_length())) {
      return damaged(vm, page, "names a compressed copy that cannot be one");
    }
  } else if (const auto slot = entry.slot()) {
    if (!vm.slots.claim(*slot))
      return damaged(vm, page, "names a swap slot that is out of range or taken");
  }
  return Done{};
}

}  // namespace

Status take_over_tables(Vm& vm, ShareGroup* share) {
  const uint32_t pages = vm.tables.page_count();
  for (uint32_t page = 0; page < pages; ++page) {
    BALLAST_TRY_STATUS(check_entry(vm, PageIndex(page), vm.get(PageIndex(page))));
  }
  std::vector<PageRun> present;
  if (vm.memory.find_present({PageIndex(0), pages}, present) == machine::MemoryResult::kGone) {
    return Error{fmt::format("{} died while it was taken over", vm.spec.name)};
  }
  std::vector<bool> is_present(pages, false);
  uint64_t frames = 0;
  for (const PageRun& run : present) {
    frames += run.count;
    for (uint32_t i = 0; i < run.count; ++i) is_present[(run.first + i).raw()] = true;
  }
  for (uint32_t index = 0; index < pages; ++index) {
    const PageIndex page(index);
    BALLAST_TRY_STATUS(claim(vm, share, page, reconciled(vm.get(page), is_present[index])));
  }
  // All is sound: from here on the tables are changed.
  for (uint32_t index = 0; index < pages; ++index) {
    const PageState state = vm.get(PageIndex(index)).state();
    // Its own frame was about to be freed when the daemon died.
    if (state == PageState::kShared && is_present[index]) {
      if (vm.memory.discard({PageIndex(index), 1}) == machine::MemoryResult::kGone) vm.gone = true;
      --frames;
    }
    // Its frame may be a private copy, which only its process knows.
    if (state == PageState::kLoose && !is_present[index]) ++frames;
  }
  vm.zip.link_claimed();
  vm.charged_frames = frames;
  vm.ledger.charge_existing(pages_to_bytes(frames));
  vm.counts.fill(0);
  for (uint32_t index = 0; index < pages; ++index) {
    const PageIndex page(index);
    const PageEntry entry = reconciled(vm.get(page), is_present[index]);
    vm.tables.put(page, entry);
    ++vm.counts[static_cast<size_t>(entry.state())];
  }
  return Done{};
}

}  // namespace ballast::engine
