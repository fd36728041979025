#include "engine/reclaim/reclaimer.h"

#include <algorithm>

#include "engine/sample/active_sampler.h"

namespace ballast::engine {

namespace {
constexpr uint32_t kAgePages = 16;  // one swap cluster
}

Reclaimer::Reclaimer(Vm& vm, SwapIo& io, Sharer& sharer, const Away& away)
    : vm_(vm), io_(io), sharer_(sharer), away_(away), victims_(Victims::make(vm)) {}

uint64_t Reclaimer::floor_in_this_state() const {
  switch (vm_.ledger.state()) {
    case HostState::kHigh:
    case HostState::kClear:
      return kNoFloor;
    case HostState::kSoft:
      return vm_.orders.soft_floor_bytes();
    case HostState::kHard:
    case HostState::kLow:
      return vm_.orders.target_bytes();
  }
  return kNoFloor;
}

uint64_t Reclaimer::wanted() {
  const uint64_t consumed = vm_.consumed();
  const auto above = [&](uint64_t floor) {
    const uint64_t least = std::max(floor, vm_.floor_bytes());
    return consumed > least ? consumed - least : 0;
  };
  const uint64_t free = vm_.ledger.free();
  const uint64_t stop = vm_.ledger.stop_level();
  const uint64_t for_host = std::min(above(floor_in_this_state()), free < stop ? stop - free : 0);
  const uint64_t pages = pages_ceil(std::max(for_host, above(vm_.orders.limit_floor_bytes())));
  return pages > going_out() ? pages - going_out() : 0;
}

uint64_t Reclaimer::going_out() const { return io_.pages_going_out() + away_.going_out(); }

uint32_t Reclaimer::above_floor() const {
  const uint64_t consumed = vm_.consumed();
  const uint64_t floor = vm_.floor_bytes();
  const uint64_t pages = consumed > floor ? pages_floor(consumed - floor) : 0;
  const uint64_t going = going_out();
  return static_cast<uint32_t>(std::min<uint64_t>(pages > going ? pages - going : 0, kRunPages));
}

uint32_t Reclaimer::age_zip(uint32_t pages) {
  uint32_t sent = 0;
  uint64_t offset = vm_.zip.empty() ? ZipCache::kEnd : vm_.zip.oldest();
  // Oldest pages already on their way are still in the list: look past a bounded number of them.
  for (uint32_t looked = 0; offset != ZipCache::kEnd && sent < pages && looked < 8 * kAgePages;
       ++looked) {
    const PageIndex page = vm_.zip.page_at(offset);
    const uint64_t next = vm_.zip.younger(offset);
    const PageEntry entry = vm_.get(page);
    if (!entry.in_flight() && io_.can_add()) {
      const auto compressed = vm_.zip.get(offset, entry.compressed_length());
      const bool whole = Codec::decompress(compressed, aged_.page(0));
      // A damaged page stays until its own fault reports it.
      if (whole && io_.add(page, aged_.page(0))) ++sent;
    }
    offset = next;
  }
  return sent;
}

Reclaimer::Fate Reclaimer::compress_page(PageIndex page, PageBytes bytes) {
  std::array<std::byte, kCompressedBytesMax> compressed;
  const uint32_t length = vm_.codec.compress(bytes, compressed);
  if (length == 0) return io_.add(page, bytes) ? Fate::kGoingOut : Fate::kStays;
  const auto put = vm_.zip.put(page, std::span(compressed).first(length));
  if (!put.offset) {
    if (put.stop == ZipCache::PutStop::kFull) {
      zip_was_full_ = true;
      return Fate::kStays;
    }
    return io_.add(page, bytes) ? Fate::kGoingOut : Fate::kStays;
  }
  vm_.set(page, PageEntry::compressed(*put.offset, length));
  ++vm_.counters.zips;
  return Fate::kStored;
}

Reclaimer::Fate Reclaimer::store_page(PageIndex page, PageBytes bytes) {
  const PageEntry entry = vm_.get(page);
  if (is_zero(bytes)) {
    vm_.set(page, PageEntry::plain(PageState::kZero));
    vm_.release_copy(entry);
    ++vm_.counters.zero_drops;
    return Fate::kStored;
  }
  if (const auto slot = entry.slot()) {
    if (page_checksum(bytes, vm_.tables.key()) == vm_.tables.checksum(*slot)) {
      vm_.set(page, PageEntry::with_slot(PageState::kSwapped, *slot));
      ++vm_.counters.clean_drops;
      return Fate::kStored;
    }
    vm_.set(page, PageEntry::plain(PageState::kSealed));
    vm_.release_slot(*slot);
  }
  if (sharer_.offer(page, bytes)) return Fate::kGoingOut;
  if (vm_.options.zip_enable) return compress_page(page, bytes);
  return io_.add(page, bytes) ? Fate::kGoingOut : Fate::kStays;
}

uint32_t Reclaimer::step(Need need) {
  if (above_floor() == 0) return 0;
  if (zip_was_full_ || (vm_.options.zip_enable && !vm_.zip.has_room())) {
    zip_was_full_ = false;
    const uint32_t sent = age_zip(std::min(kAgePages, above_floor()));
    // With the cache full and its way out busy, compressing more pages would only burn the CPU.
    if (sent == 0 && !vm_.zip.has_room() && io_.busy()) return 0;
  }
  PageRun run = victims_->next();
  // No frame is left to take: what the VM holds is its cache. A fault that waits may have that too,
  // however far the cache is from full.
  if (run.count == 0 && need == Need::kWaitingFault)
    return age_zip(std::min(kAgePages, above_floor()));
  run.count = std::min(run.count, above_floor());
  if (run.count == 0 || vm_.gone) return 0;
  vm_.sampler->before_evict(run);
  if (!vm_.seal_and_read(run)) return 0;
  uint32_t moved = 0;
  PageRun stored{run.first, 0};
  const auto discard = [&] {
    if (stored.count == 0) return;
    if (vm_.memory.discard(stored) == machine::MemoryResult::kGone) vm_.gone = true;
    vm_.uncharge_frames(stored.count);
  };
  for (uint32_t i = 0; i < run.count; ++i) {
    const PageIndex page = run.first + i;
    const Fate fate = store_page(page, vm_.scratch.page(i));
    if (fate != Fate::kStays) ++moved;
    if (fate == Fate::kStored) {
      ++stored.count;
      continue;
    }
    discard();
    stored = {page + 1, 0};
  }
  discard();
  sharer_.flush_offers();
  return moved;
}

}  // namespace ballast::engine
