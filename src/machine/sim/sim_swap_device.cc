#include "machine/sim/sim_swap_device.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace ballast::machine::sim {

namespace {

constexpr std::byte kPoison{0xd5};  // what a read buffer holds until the disk answered
constexpr size_t kSectorBytes = 512;

uint32_t slots_of(std::span<const std::byte> bytes) {
  return static_cast<uint32_t>(bytes.size() / kPageBytes);
}

}  // namespace

SimSwapDevice::SimSwapDevice(SimWorld& world, uint32_t vm, SimSwapOptions options)
    : world_(world), vm_(vm), options_(options), slots_(options.slot_count) {}

void SimSwapDevice::queue(Op op) {
  const size_t bytes = op.buffer.size();
  BALLAST_CHECK_THAT(bytes > 0 && bytes % kPageBytes == 0, "{} bytes", bytes);
  BALLAST_CHECK_THAT(reinterpret_cast<uintptr_t>(op.buffer.data()) % kPageBytes == 0,
                     "buffer of token {} is not page-aligned", op.token);
  const uint32_t count = slots_of(op.buffer);
  BALLAST_CHECK_THAT(op.first.raw() < slot_count() && count <= slot_count() - op.first.raw(),
                     "slots {}+{} of {}", op.first.raw(), count, slot_count());
  for (uint32_t i = 0; i < count; ++i) {
    Slot& slot = slots_[op.first.raw() + i];
    BALLAST_CHECK_THAT(!slot.busy, "slot {} of VM {} has an operation in flight already",
                       op.first.raw() + i, vm_);
    slot.busy = true;
  }
  ops_.push_back(std::move(op));
}

void SimSwapDevice::grow(uint32_t slots) {
  options_.slot_count = slots;
  slots_.resize(slots);
}

void SimSwapDevice::write(SwapSlot first, std::span<const std::byte> bytes, IoToken token) {
  if (world_.abandoned()) return;
  world_.note("swap-out", vm_, first.raw(), slots_of(bytes));
  world_.point();
  Op op;
  op.is_write = true;
  op.first = first;
  op.buffer = {const_cast<std::byte*>(bytes.data()), bytes.size()};
  op.copy = std::make_unique_for_overwrite<std::byte[]>(bytes.size());
  std::memcpy(op.copy.get(), bytes.data(), bytes.size());
  op.token = token;
  queue(std::move(op));
  world_.point();
}

void SimSwapDevice::read(SwapSlot first, std::span<std::byte> bytes, IoToken token) {
  if (world_.abandoned()) return;
  world_.note("swap-in", vm_, first.raw(), slots_of(bytes));
  world_.point();
  std::memset(bytes.data(), static_cast<int>(kPoison), bytes.size());
  Op op;
  op.first = first;
  op.buffer = bytes;
  op.token = token;
  queue(std::move(op));
  world_.point();
}

void SimSwapDevice::submit() {
  if (world_.abandoned()) return;
  for (Op& op : ops_) {
    if (op.submitted) continue;
    op.submitted = true;
    Nanoseconds latency = world_.random().between(options_.latency_min, options_.latency_max);
    if (world_.chance(options_.slow)) {
      latency = world_.random().between(options_.latency_max, options_.slow_max);
    }
    op.ready = world_.peek() + latency;
  }
  world_.point(500);
}

size_t SimSwapDevice::poll(std::span<IoDone> done) {
  if (world_.abandoned()) return 0;
  world_.point();
  size_t count = 0;
  for (size_t i = 0; i < ops_.size() && count < done.size();) {
    if (!ops_[i].submitted || ops_[i].ready > world_.peek()) {
      ++i;
      continue;
    }
    done[count++] = {ops_[i].token, complete(ops_[i])};
    std::swap(ops_[i], ops_.back());
    ops_.pop_back();
  }
  if (count > 0) world_.note("io-done", vm_, count);
  return count;
}

IoStatus SimSwapDevice::complete(Op& op) {
  for (uint32_t i = 0; i < slots_of(op.buffer); ++i) slots_[op.first.raw() + i].busy = false;
  const IoStatus status = op.is_write ? complete_write(op) : complete_read(op);
  if (status != IoStatus::kOk) {
    world_.note("io-bad", vm_, op.first.raw(), static_cast<uint64_t>(status));
  }
  return status;
}

void SimSwapDevice::store(const Op& op, size_t bytes) {
  for (size_t at = 0; at < bytes; at += kPageBytes) {
    Slot& slot = slots_[op.first.raw() + at / kPageBytes];
    if (world_.bugs.stale_slots) {
      slot.before = std::make_unique<std::byte[]>(kPageBytes);
      if (slot.bytes) std::memcpy(slot.before.get(), slot.bytes.get(), kPageBytes);
    }
    if (slot.bytes == nullptr) slot.bytes = std::make_unique<std::byte[]>(kPageBytes);
    std::memcpy(slot.bytes.get(), op.copy.get() + at, std::min(kPageBytes, bytes - at));
    slot.bad = false;
  }
}

IoStatus SimSwapDevice::complete_write(Op& op) {
  const size_t bytes = op.buffer.size();
  BALLAST_CHECK_THAT(std::memcmp(op.copy.get(), op.buffer.data(), bytes) == 0,
                     "the engine changed the buffer of write {} to slot {} in flight", op.token,
                     op.first.raw());
  Random& random = world_.random();
  const auto some_sectors = [&] {
    return random.below(static_cast<uint32_t>(bytes / kSectorBytes)) * kSectorBytes;
  };
  if (world_.chance(options_.failed_writes)) {
    store(op, some_sectors());
    return IoStatus::kFailed;
  }
  if (world_.chance(options_.no_space)) return IoStatus::kNoSpace;
  if (world_.chance(options_.lost_writes)) {
    ++damage_;
    return IoStatus::kOk;
  }
  if (world_.chance(options_.torn_writes)) {
    ++damage_;
    store(op, some_sectors());
    return IoStatus::kOk;
  }
  store(op, bytes);
  Slot& victim = slots_[op.first.raw() + random.below(slots_of(op.buffer))];
  if (world_.chance(options_.flipped_bits)) {
    ++damage_;
    victim.bytes[random.below(kPageBytes)] ^= std::byte{1} << random.below(8);
  }
  if (world_.chance(options_.bad_slots)) {
    ++damage_;
    victim.bad = true;
  }
  return IoStatus::kOk;
}

IoStatus SimSwapDevice::complete_read(Op& op) {
  for (const std::byte byte : op.buffer) {
    BALLAST_CHECK_THAT(byte == kPoison, "the engine changed the buffer of read {} in flight",
                       op.token);
  }
  if (world_.chance(options_.failed_reads)) {
    ++damage_;
    return IoStatus::kFailed;
  }
  for (uint32_t i = 0; i < slots_of(op.buffer); ++i) {
    const Slot& slot = slots_[op.first.raw() + i];
    std::byte* to = op.buffer.data() + size_t{i} * kPageBytes;
    if (slot.bad) {
      ++damage_;
      return IoStatus::kFailed;
    }
    const bool stale = world_.bugs.stale_slots && slot.before && world_.random().chance(900);
    const std::byte* from = stale ? slot.before.get() : slot.bytes.get();
    if (from != nullptr) {
      std::memcpy(to, from, kPageBytes);
    } else {
      std::memset(to, 0, kPageBytes);
    }
  }
  return IoStatus::kOk;
}

void SimSwapDevice::adopt() {
  Random& random = world_.random();
  for (const Op& op : ops_) {
    for (uint32_t i = 0; i < slots_of(op.buffer); ++i) slots_[op.first.raw() + i].busy = false;
    if (!op.is_write || !op.submitted) continue;
    const size_t sectors = op.buffer.size() / kSectorBytes;
    const uint32_t fate = random.below(3);
    if (fate == 0) store(op, op.buffer.size());
    if (fate == 1) store(op, random.below(static_cast<uint32_t>(sectors)) * kSectorBytes);
  }
  ops_.clear();
}

Nanoseconds SimSwapDevice::next_ready() const {
  Nanoseconds next = ~Nanoseconds{0};
  for (const Op& op : ops_) {
    if (op.submitted) next = std::min(next, op.ready);
  }
  return next;
}

void SimSwapDevice::repair() {
  for (Slot& slot : slots_) slot.bad = false;
}

}  // namespace ballast::machine::sim
