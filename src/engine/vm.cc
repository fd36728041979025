#include "engine/vm.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <new>

#include "engine/sample/active_sampler.h"
#include "engine/share/away.h"

namespace ballast::engine {

PageBuffer::PageBuffer(uint32_t pages)
    : bytes_(static_cast<std::byte*>(std::aligned_alloc(kPageBytes, size_t{pages} * kPageBytes))) {
  BALLAST_CHECK(bytes_ != nullptr);
}

void PageBuffer::Free::operator()(std::byte* bytes) const { std::free(bytes); }

Vm::Vm(const VmSpec& vm_spec, const PagerParts& parts, Tables vm_tables)
    : spec(vm_spec),
      memory(parts.memory),
      swap(parts.swap),
      store(parts.store),
      control(parts.control),
      clock(parts.clock),
      ledger(parts.ledger),
      options(parts.options),
      seed(parts.seed),
      share(parts.share),
      tables(vm_tables),
      zip(parts.store, parts.ledger,
          parts.options.zip_enable ? vm_spec.configured_bytes / 100 * parts.options.zip_max_percent
                                   : 0),
      slots(std::min(vm_tables.slot_count(), parts.swap.slot_count())),
      orders(
          {.target_bytes = vm_spec.configured_bytes, .min_bytes = vm_spec.allocation.min_bytes}) {}

void Vm::set(PageIndex page, PageEntry entry) {
  const PageState from = tables.get(page).state();
  const PageState to = entry.state();
  BALLAST_CHECK_THAT(may_follow(from, to), "vm {} page {}: {} → {}", spec.name, page.raw(),
                     name_of(from), name_of(to));
  --counts[static_cast<size_t>(from)];
  ++counts[static_cast<size_t>(to)];
  tables.put(page, entry);
}

uint32_t Vm::charge_frames(uint32_t wanted) {
  if (blocked()) return 0;
  for (uint32_t frames = wanted; frames > 0; frames /= 4) {
    if (ledger.try_charge(pages_to_bytes(frames))) {
      charged_frames += frames;
      return frames;
    }
  }
  return 0;
}

void Vm::uncharge_frames(uint64_t frames) {
  BALLAST_CHECK(frames <= charged_frames);
  charged_frames -= frames;
  ledger.uncharge(pages_to_bytes(frames));
}

void Vm::release_copy(PageEntry old) {
  if (old.state() == PageState::kCompressed) {
    zip.free(old.arena_offset());
  } else if (const auto slot = old.slot()) {
    release_slot(*slot);
  }
}

void Vm::release_slot(SwapSlot slot) {
  for (Reading& read : reading) {
    if (slot < read.run.first || slot - read.run.first >= read.run.count) continue;
    read.orphans |= uint64_t{1} << (slot - read.run.first);
    return;
  }
  slots.release(slot);
}

SlotRun Vm::allocate_slots(uint32_t wanted) {
  if (slots.free_count() < wanted) strip_kept_copies();
  const SlotRun run = slots.allocate(wanted);
  // The checksum table is sparse: it is charged as far as slots were ever used.
  const uint64_t pages =
      (slots.high_water() + Tables::kChecksumsPerPage - 1) / Tables::kChecksumsPerPage;
  while (charged_checksum_pages < pages) {
    if (!ledger.try_charge_for_reclaim(kPageBytes)) {
      for (uint32_t i = 0; i < run.count; ++i) slots.release(run.first + i);
      return {};
    }
    ++charged_checksum_pages;
    tables.set_checksum_pages(static_cast<uint32_t>(charged_checksum_pages));
    overhead_bytes += kPageBytes;
  }
  return run;
}

// Slots are as many as pages above min, so while pages are swapped enough of them are held by
// resident pages as kept copies. A bounded walk takes some back.
void Vm::strip_kept_copies() {
  const uint32_t pages = tables.page_count();
  for (uint32_t step = 0; step < 4096 && step < pages; ++step) {
    const PageIndex page(strip_hand_);
    strip_hand_ = strip_hand_ + 1 < pages ? strip_hand_ + 1 : 0;
    const PageEntry entry = get(page);
    if (!has_frame(entry.state()) || !entry.slot()) continue;
    set(page, PageEntry::plain(entry.state()).with_in_flight(entry.in_flight()));
    release_slot(*entry.slot());
  }
}

bool Vm::discard_bit(PageIndex page) const {
  const auto& word = memory.discard_bits()[page.raw() / 64];
  return (word.load(std::memory_order_acquire) >> (page.raw() % 64) & 1) != 0;
}

bool Vm::take_discard(PageIndex page) {
  if (!discard_bit(page) || is_away(get(page).state())) return false;
  if (!has_frame(get(page).state())) give_up(page);
  clear_discard_bit(page);
  return true;
}

void Vm::clear_discard_bit(PageIndex page) {
  memory.discard_bits()[page.raw() / 64].fetch_and(~(uint64_t{1} << (page.raw() % 64)),
                                                   std::memory_order_acq_rel);
}

void Vm::give_up(PageIndex page) {
  const PageEntry entry = get(page);
  if (entry.state() == PageState::kBallooned) return;
  set(page, PageEntry::plain(PageState::kBallooned).with_in_flight(entry.in_flight()));
  release_copy(entry);
  if (has_frame(entry.state())) {
    uncharge_frames(1);
    sampler->note_gone({page, 1});
  }
  ++counters.discards;
}

void Vm::take_discarded_word(uint32_t word) {
  const uint64_t bits = memory.discard_bits()[word].load(std::memory_order_acquire);
  const uint32_t base = word * 64;
  const uint32_t count =
      std::min<uint32_t>(64, tables.page_count() - std::min(base, tables.page_count()));
  uint64_t with_frame = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const PageIndex page(base + i);
    if ((bits >> i & 1) == 0) continue;
    if (is_away(state(page))) {
      discards_left |= !away->bring_home(page);
      continue;
    }
    take_discard(page);
    if (has_frame(state(page))) with_frame |= uint64_t{1} << i;
  }
  if (with_frame == 0) return;
  // A page with a frame is judged by the RAM file: gone there, or not discarded yet, or filled
  // again since.
  std::vector<PageRun> present;
  if (memory.find_present({PageIndex(base), count}, present) == machine::MemoryResult::kGone) {
    gone = true;
    return;
  }
  for (const PageRun& run : present) {
    for (uint32_t i = 0; i < run.count; ++i) {
      with_frame &= ~(uint64_t{1} << ((run.first + i).raw() - base));
    }
  }
  for (; with_frame != 0; with_frame &= with_frame - 1) {
    give_up(PageIndex(base + static_cast<uint32_t>(std::countr_zero(with_frame))));
  }
}

bool Vm::seal_and_read(PageRun run) {
  for (uint32_t i = 0; i < run.count; ++i) {
    // A discard seen only now is void: either it has not happened yet (its second mark will come),
    // or the page has been filled again since.
    const PageIndex page = run.first + i;
    take_discard(page);
  }
  if (memory.seal(run) == machine::MemoryResult::kGone ||
      memory.read(run, scratch.run(0, run.count)) == machine::MemoryResult::kGone) {
    gone = true;
    return false;
  }
  for (uint32_t i = 0; i < run.count; ++i) {
    const PageIndex page = run.first + i;
    set(page, get(page).moved_to(PageState::kSealed));
  }
  return true;
}

}  // namespace ballast::engine
