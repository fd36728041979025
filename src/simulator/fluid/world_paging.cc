// How the host takes memory back by force: Ballast's pagers, or the kernel's swap.
#include <algorithm>

#include "simulator/fluid/world.h"

namespace ballast::simulator::fluid {

namespace {

constexpr Bytes kPageOutRate = 250 * kMb;  // per VM: one worker compresses so fast
// Memory that is known zero is dropped as fast as it is looked at; by kernels since 6.12 too.
constexpr Bytes kScanRate = 1 * kGb;
constexpr Bytes kSwapWriteRate = 200 * kMb;  // the host's disk
constexpr double kZipRatio = 0.4;
// Part of what is paged out that hits memory in use: neither second chance nor the kernel's lists
// are exact. The same for both.
constexpr double kBlind = 0.1;
// The kernel's background reclaim, as parts of the host's memory.
constexpr double kLowWatermark = 0.01;
constexpr double kHighWatermark = 0.015;

}  // namespace

Bytes Vm::arena() const { return zipped * kZipRatio; }

Bytes Vm::above(uint64_t floor_bytes) const {
  return std::max(0.0, consumed() - std::max(to_bytes(floor_bytes), guaranteed()));
}

double Vm::swapped_part() const { return zipped + swapped > 0 ? swapped / (zipped + swapped) : 1; }

// The largest size of a VM's compression cache, in bytes before compression.
Bytes World::zip_max(const Vm& vm) const {
  if (rule_.pager() == Rule::Pager::kKernel || !plan_.options.zip_enable) return 0;
  return vm.plan.configured * plan_.options.zip_max_percent / 100 / kZipRatio;
}

void World::evict(Vm& vm, Bytes bytes) {
  const Guest::Evicted evicted = vm.guest.evict(bytes, kBlind);
  const Bytes most = zip_max(vm);
  const Bytes zipped = most > 0 ? evicted.stored * plan_.compressible : 0;
  // When the cache is full its oldest pages go to disk.
  const Bytes overflow = std::max(0.0, vm.zipped + zipped - most);
  const Bytes written = evicted.stored - zipped + overflow;
  vm.zipped += zipped - overflow;
  vm.swapped += written;
  vm.zipped_out += zipped;
  vm.swapped_out += written;
  disk_writes_ -= written;
}

void World::page_out() {
  disk_writes_ = kSwapWriteRate * kStep;
  for (auto& vm : vms_) {
    // What came back, went into the balloon or was freed is in no store any more.
    const Bytes paged = vm->guest.paged().total();
    const Bytes stored = vm->zipped + vm->swapped;
    const double kept = stored > 0 ? std::min(1.0, paged / stored) : 0;
    vm->zipped *= kept;
    vm->swapped *= kept;
  }
  if (rule_.pager() == Rule::Pager::kOwn) {
    page_out_own();
  } else {
    page_out_kernel();
  }
}

// What a worker of ours would take from its own VM: what is above the floor while the host lacks
// memory; what is above its limit; and what its own guest waits for, if the others have not brought
// it.
struct World::Wish {
  Vm* vm;
  Bytes for_host;
  Bytes for_itself;
  Bytes most() const { return std::max(for_host, for_itself); }
};

// Memory that can be paged out of the VM while it writes no more than `disk` bytes; all of it is
// written once the cache is full.
Bytes World::most_paged(const Vm& vm, Bytes disk) const {
  const Bytes zip_room = std::max(0.0, zip_max(vm) - vm.zipped);
  const Bytes for_disk = std::min(disk / (1 - plan_.compressible), disk + zip_room);
  const Bytes zero = std::min(vm.guest.resident().zero, kScanRate * kStep);
  const double time_left = 1 - zero / (kScanRate * kStep);
  return zero + std::min(for_disk, kPageOutRate * kStep * time_left);
}

// For the host's sake all workers together take no more than it lacks. They share the disk: all the
// same, and none more than it needs.
void World::page_out_own() {
  const Bytes lacking = std::max(0.0, to_bytes(rule_.paging_stops_at()) - free());
  std::vector<Wish> wishes;
  Bytes for_host = 0;
  for (auto& vm : vms_) {
    Wish wish{
        vm.get(), lacking > 0 ? vm->above(vm->order.floor_bytes) : 0,
        std::max(std::min(vm->waits_for, vm->above(0)), vm->above(vm->order.limit_floor_bytes))};
    wish.for_host = std::min(wish.for_host, kScanRate * kStep);
    for_host += wish.for_host;
    if (wish.most() > 0) wishes.push_back(wish);
  }
  const double part = for_host > lacking ? lacking / for_host : 1;
  for (Wish& wish : wishes) wish.for_host *= part;
  std::ranges::sort(wishes, {}, &Wish::most);
  for (size_t done = 0; done < wishes.size(); ++done) {
    Vm& vm = *wishes[done].vm;
    const Bytes disk = disk_writes_ / static_cast<double>(wishes.size() - done);
    evict(vm, std::min(wishes[done].most(), most_paged(vm, disk)));
  }
}

// Global reclaim, woken when free memory is low; and what a rule asks for by memory.reclaim.
void World::page_out_kernel() {
  if (free() < plan_.memory * kLowWatermark) kswapd_ = true;
  if (free() >= plan_.memory * kHighWatermark) kswapd_ = false;
  if (kswapd_) {
    // Every thread that waits for memory reclaims: as many as there are VMs.
    const Bytes looked_at = kScanRate * kStep * static_cast<double>(vms_.size());
    evict_all(looked_at, [](const Held& held) { return held.zero; });
    evict_all(disk_writes_, [](const Held& held) { return held.total() - held.hot; });
    evict_all(disk_writes_, [](const Held& held) { return held.total(); });
  }
  for (auto& vm : vms_) {
    const Bytes asked = to_bytes(vm->order.reclaim_bytes);
    const Bytes done = std::min(asked, disk_writes_);
    if (done <= 0) continue;
    evict(*vm, done);
    vm->order.reclaim_bytes = to_count(asked - done);
  }
}

// Up to the high watermark and what threads wait for, from all VMs in proportion to what `amount`
// counts.
void World::evict_all(Bytes most, Bytes (*amount)(const Held&)) {
  Bytes all = 0;
  Bytes waits_for = 0;
  for (const auto& vm : vms_) {
    all += amount(vm->guest.resident());
    waits_for += vm->waits_for;
  }
  const Bytes wanted = std::min({plan_.memory * kHighWatermark + waits_for - free(), most, all});
  if (wanted <= 0) return;
  for (auto& vm : vms_) evict(*vm, wanted * (amount(vm->guest.resident()) / all));
}

}  // namespace ballast::simulator::fluid
