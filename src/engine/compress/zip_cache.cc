#include "engine/compress/zip_cache.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace ballast::engine {

ZipCache::ZipCache(machine::VmStore& store, Ledger& ledger, uint64_t max_bytes)
    : store_(store), ledger_(ledger), arena_(store.arena()), max_bytes_(max_bytes) {
  // Links count granules in 32 bits: 64 GiB of arena.
  slab_limit_ = static_cast<uint32_t>(
      std::min<size_t>(arena_.size() / kSlabBytes, kNone / (kSlabBytes / kGranule)));
  partial_.fill(kNone);
}

ZipCache::~ZipCache() { ledger_.uncharge(used_bytes()); }

uint8_t ZipCache::class_for(uint32_t length) {
  const uint32_t bytes = length + sizeof(SlotHeader);
  uint8_t size_class = 0;
  while (size_class + 1u < kSlotsPerSlab.size() && slot_bytes(size_class + 1u) >= bytes)
    ++size_class;
  return size_class;
}

void ZipCache::push_partial(uint32_t slab) {
  Slab& entry = slabs_[slab];
  uint32_t& head = partial_[entry.size_class];
  entry.next_partial = head;
  entry.previous_partial = kNone;
  if (head != kNone) slabs_[head].previous_partial = slab;
  head = slab;
  entry.partial = true;
}

void ZipCache::drop_partial(uint32_t slab) {
  Slab& entry = slabs_[slab];
  if (entry.next_partial != kNone)
    slabs_[entry.next_partial].previous_partial = entry.previous_partial;
  if (entry.previous_partial != kNone) {
    slabs_[entry.previous_partial].next_partial = entry.next_partial;
  } else {
    partial_[entry.size_class] = entry.next_partial;
  }
  entry.partial = false;
}

std::optional<uint32_t> ZipCache::slab_with_room(uint8_t size_class, PutStop& stop) {
  if (partial_[size_class] != kNone) return partial_[size_class];
  if (!has_room() || (free_slabs_.empty() && slabs_.size() == slab_limit_)) {
    stop = PutStop::kFull;
    return std::nullopt;
  }
  if (!ledger_.try_charge_for_reclaim(kSlabBytes)) {
    stop = PutStop::kNoMemory;
    return std::nullopt;
  }
  ++slabs_used_;
  if (free_slabs_.empty()) add_slabs_up_to(static_cast<uint32_t>(slabs_.size()));
  const uint32_t slab = free_slabs_.back();
  free_slabs_.pop_back();
  slabs_[slab] = Slab{};
  slabs_[slab].size_class = size_class;
  push_partial(slab);
  return slab;
}

void ZipCache::add_slabs_up_to(uint32_t slab) {
  for (auto index = static_cast<uint32_t>(slabs_.size()); index <= slab; ++index) {
    slabs_.emplace_back();
    free_slabs_.reserve(slabs_.capacity());  // so that free() never allocates
    free_slabs_.push_back(index);
  }
}

void ZipCache::link_youngest(uint32_t granule) {
  SlotHeader& slot = header(granule);
  slot.older = youngest_;
  slot.younger = kNone;
  if (youngest_ != kNone) {
    header(youngest_).younger = granule;
  } else {
    oldest_ = granule;
  }
  youngest_ = granule;
}

void ZipCache::unlink(uint32_t granule) {
  const SlotHeader& slot = header(granule);
  if (slot.older != kNone) {
    header(slot.older).younger = slot.younger;
  } else {
    oldest_ = slot.younger;
  }
  if (slot.younger != kNone) {
    header(slot.younger).older = slot.older;
  } else {
    youngest_ = slot.older;
  }
}

ZipCache::PutResult ZipCache::put(PageIndex page, std::span<const std::byte> compressed) {
  const auto length = static_cast<uint32_t>(compressed.size());
  BALLAST_CHECK(length > 0 && length <= kCompressedBytesMax);
  PutResult result;
  const uint8_t size_class = class_for(length);
  const auto found = slab_with_room(size_class, result.stop);
  if (!found) return result;

  Slab& slab = slabs_[*found];
  const auto in_word = [&](size_t word) { return std::countr_one(slab.taken[word]); };
  const auto slot = static_cast<uint32_t>(in_word(0) < 64 ? in_word(0) : 64 + in_word(1));
  slab.taken[slot / 64] |= uint64_t{1} << (slot % 64);
  if (++slab.used == kSlotsPerSlab[size_class]) drop_partial(*found);
  ++slots_used_;

  const uint64_t offset = uint64_t{*found} * kSlabBytes + slot * slot_bytes(size_class);
  const auto granule = static_cast<uint32_t>(offset / kGranule);
  header(granule).page = page.raw();
  link_youngest(granule);
  std::memcpy(arena_.data() + offset + sizeof(SlotHeader), compressed.data(), length);
  result.offset = offset;
  return result;
}

std::span<const std::byte> ZipCache::get(uint64_t offset, uint32_t length) const {
  return arena_.subspan(offset + sizeof(SlotHeader), length);
}

void ZipCache::free(uint64_t offset) {
  const auto index = static_cast<uint32_t>(offset / kSlabBytes);
  Slab& slab = slabs_[index];
  const auto slot = static_cast<uint32_t>(offset % kSlabBytes) / slot_bytes(slab.size_class);
  BALLAST_CHECK_THAT((slab.taken[slot / 64] >> (slot % 64) & 1) != 0, "arena offset {}", offset);
  unlink(static_cast<uint32_t>(offset / kGranule));
  slab.taken[slot / 64] &= ~(uint64_t{1} << (slot % 64));
  --slots_used_;
  --slab.used;
  if (slab.used == 0) {
    if (slab.partial) drop_partial(index);
    free_slabs_.push_back(index);
    store_.release_arena(uint64_t{index} * kSlabBytes, kSlabBytes);
    --slabs_used_;
    ledger_.uncharge(kSlabBytes);
  } else if (!slab.partial) {
    push_partial(index);
  }
}

uint64_t ZipCache::younger(uint64_t offset) const {
  const uint32_t next = header(static_cast<uint32_t>(offset / kGranule)).younger;
  return next == kNone ? kEnd : uint64_t{next} * kGranule;
}

PageIndex ZipCache::page_at(uint64_t offset) const {
  return PageIndex(header(static_cast<uint32_t>(offset / kGranule)).page);
}

bool ZipCache::claim(PageIndex page, uint64_t offset, uint32_t length) {
  if (length == 0 || length > kCompressedBytesMax) return false;
  if (offset / kSlabBytes >= slab_limit_) return false;
  add_slabs_up_to(static_cast<uint32_t>(offset / kSlabBytes));
  Slab& slab = slabs_[offset / kSlabBytes];
  const uint8_t size_class = class_for(length);
  const uint32_t within = static_cast<uint32_t>(offset % kSlabBytes);
  const uint32_t slot = within / slot_bytes(size_class);
  if (within % slot_bytes(size_class) != 0 || slot >= kSlotsPerSlab[size_class]) return false;
  if (slab.used > 0 && slab.size_class != size_class) return false;
  if ((slab.taken[slot / 64] >> (slot % 64) & 1) != 0) return false;
  slab.size_class = size_class;
  slab.taken[slot / 64] |= uint64_t{1} << (slot % 64);
  ++slab.used;
  ++slots_used_;
  header(static_cast<uint32_t>(offset / kGranule)).page = page.raw();
  return true;
}

void ZipCache::link_claimed() {
  free_slabs_.clear();
  for (uint32_t index = static_cast<uint32_t>(slabs_.size()); index > 0; --index) {
    const Slab& slab = slabs_[index - 1];
    if (slab.used == 0) free_slabs_.push_back(index - 1);
  }
  for (uint32_t index = 0; index < slabs_.size(); ++index) {
    Slab& slab = slabs_[index];
    if (slab.used == 0) {
      // A slab may hold frames of slots that no entry names (the daemon died between store and
      // entry). Neighbours go in one call: an idle cache is one hole.
      const uint32_t first = index;
      while (index + 1 < slabs_.size() && slabs_[index + 1].used == 0) ++index;
      store_.release_arena(uint64_t{first} * kSlabBytes, uint64_t{index - first + 1} * kSlabBytes);
      continue;
    }
    ledger_.charge_existing(kSlabBytes);
    ++slabs_used_;
    for (uint32_t slot = 0; slot < kSlotsPerSlab[slab.size_class]; ++slot) {
      if ((slab.taken[slot / 64] >> (slot % 64) & 1) == 0) continue;
      link_youngest(static_cast<uint32_t>(
          (uint64_t{index} * kSlabBytes + slot * slot_bytes(slab.size_class)) / kGranule));
    }
    if (slab.used < kSlotsPerSlab[slab.size_class]) push_partial(index);
  }
  const uint64_t known = slabs_.size() * uint64_t{kSlabBytes};
  const uint64_t end = slab_limit_ * uint64_t{kSlabBytes};
  if (known < end) store_.release_arena(known, end - known);
}

uint64_t ZipCache::count_slots() const {
  uint64_t count = 0;
  for (const Slab& slab : slabs_) {
    count += static_cast<uint64_t>(std::popcount(slab.taken[0]) + std::popcount(slab.taken[1]));
  }
  return count;
}

}  // namespace ballast::engine
