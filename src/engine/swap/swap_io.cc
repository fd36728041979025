#include "engine/swap/swap_io.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

namespace ballast::engine {

namespace {
constexpr Nanoseconds kBackoffFirst = kSecond;
constexpr Nanoseconds kBackoffMax = 64 * kSecond;
}  // namespace

SwapIo::SwapIo(Vm& vm) : vm_(vm) {}

uint32_t SwapIo::take_buffer(Use use) {
  for (uint32_t index = 0; index < kBuffers; ++index) {
    if (buffers_[index].use != Use::kFree) continue;
    buffers_[index] = Buffer{};
    buffers_[index].use = use;
    return index;
  }
  return kBuffers;
}

bool SwapIo::can_add() {
  // Slots of resident pages' kept copies can be had; those of pages that are nowhere else cannot.
  const uint64_t needed =
      vm_.count(PageState::kSwapped) + vm_.count(PageState::kLost) + pages_going_out_;
  if (needed >= vm_.slots.count() || vm_.clock.now() < closed_until_) return false;
  if (filling_ != kBuffers) return true;
  const auto writing = std::count_if(buffers_.begin(), buffers_.end(),
                                     [](const Buffer& b) { return b.use == Use::kWriting; });
  return writing < kWriteBuffersMax;
}

bool SwapIo::add(PageIndex page, PageBytes bytes) {
  if (!can_add()) return false;
  if (filling_ == kBuffers) filling_ = take_buffer(Use::kFilling);
  if (filling_ == kBuffers) return false;
  Buffer& cluster = buffers_[filling_];
  const PageEntry entry = vm_.get(page);
  BALLAST_CHECK_THAT(!entry.in_flight(), "page {}", page.raw());
  const uint32_t at = cluster.count++;
  cluster.pages[at] = page;
  cluster.checksums[at] = page_checksum(bytes, vm_.tables.key());
  std::memcpy(bytes_of(filling_, at).data(), bytes.data(), kPageBytes);
  vm_.set(page, entry.with_in_flight(true));
  ++pages_going_out_;
  if (cluster.count == kClusterPages) flush();
  return true;
}

void SwapIo::flush() {
  if (filling_ == kBuffers) return;
  const uint32_t index = std::exchange(filling_, kBuffers);
  Buffer& cluster = buffers_[index];
  cluster.use = Use::kWriting;
  uint32_t placed = 0;
  while (placed < cluster.count) {
    const SlotRun run = vm_.allocate_slots(cluster.count - placed);
    if (run.count == 0) break;
    for (uint32_t i = 0; i < run.count; ++i) cluster.slots[placed + i] = run.first + i;
    vm_.swap.write(run.first, memory_.run(index * kClusterPages + placed, run.count), index);
    ++cluster.outstanding;
    placed += run.count;
  }
  // Pages without a slot stay where they are.
  for (uint32_t i = placed; i < cluster.count; ++i) {
    vm_.set(cluster.pages[i], vm_.get(cluster.pages[i]).with_in_flight(false));
    --pages_going_out_;
  }
  cluster.count = placed;
  if (placed == 0) {
    cluster.use = Use::kFree;
    return;
  }
  ++writes_;
  vm_.swap.submit();
}

void SwapIo::written(uint32_t buffer) {
  Buffer& cluster = buffers_[buffer];
  --writes_;
  pages_going_out_ -= cluster.count;
  if (cluster.failed) {
    write_failed(cluster);
  } else {
    if (backoff_ != 0) {
      vm_.control.event(machine::Severity::kInfo, "swap.recovered",
                        fmt::format("writes to the swap file of {} succeed again", vm_.spec.name));
    }
    backoff_ = 0;
    store_written(cluster);
  }
  cluster.use = Use::kFree;
}

void SwapIo::write_failed(Buffer& cluster) {
  for (uint32_t i = 0; i < cluster.count; ++i) {
    vm_.set(cluster.pages[i], vm_.get(cluster.pages[i]).with_in_flight(false));
    vm_.slots.release(cluster.slots[i]);
  }
  // Several clusters are in flight when a disk fails: together they are one attempt.
  if (vm_.clock.now() < closed_until_) return;
  const bool first = backoff_ == 0;
  backoff_ = first ? kBackoffFirst : std::min(backoff_ * 2, kBackoffMax);
  closed_until_ = vm_.clock.now() + backoff_;
  const char* why = cluster.status == machine::IoStatus::kNoSpace ? "no space left on the device"
                                                                  : "input/output error";
  vm_.control.event(
      first ? machine::Severity::kError : machine::Severity::kWarning, "swap.write-failed",
      fmt::format(
          "{} pages of {} could not be swapped out: {}. They stay in memory and the VM runs on; "
          "next try in {} s. Check the disk under the swap directory",
          cluster.count, vm_.spec.name, why, backoff_ / kSecond));
}

void SwapIo::store_written(const Buffer& cluster) {
  PageRun gone{};  // pages whose frames can go, gathered into runs
  const auto discard = [&] {
    if (gone.count == 0) return;
    if (vm_.memory.discard(gone) == machine::MemoryResult::kGone) vm_.gone = true;
    vm_.uncharge_frames(gone.count);
    gone = {};
  };
  for (uint32_t i = 0; i < cluster.count; ++i) {
    const PageIndex page = cluster.pages[i];
    const PageEntry entry = vm_.get(page);
    const bool untouched_since =
        entry.state() == PageState::kSealed || entry.state() == PageState::kCompressed;
    if (!untouched_since || !entry.in_flight()) {
      vm_.slots.release(cluster.slots[i]);
      vm_.set(page, entry.with_in_flight(false));
      continue;
    }
    vm_.tables.set_checksum(cluster.slots[i], cluster.checksums[i]);
    vm_.set(page, PageEntry::with_slot(PageState::kSwapped, cluster.slots[i]));
    ++vm_.counters.swap_outs;
    if (entry.state() == PageState::kCompressed) {
      vm_.zip.free(entry.arena_offset());
      continue;
    }
    if (gone.count == 0 || gone.end() != page) {
      discard();
      gone = {page, 0};
    }
    ++gone.count;
  }
  discard();
}

bool SwapIo::loading(PageIndex page) const {
  return std::any_of(buffers_.begin(), buffers_.end(), [page](const Buffer& read) {
    const auto end = read.pages.begin() + read.count;
    return read.use == Use::kReading && std::find(read.pages.begin(), end, page) != end;
  });
}

SwapIo::ReadStart SwapIo::start_read(PageIndex page, bool write, uint32_t window) {
  if (loading(page)) return ReadStart::kAlreadyLoading;
  return read_into_buffer({.page = page, .window = window, .write = write});
}

SwapIo::ReadStart SwapIo::start_background_read(PageIndex page, uint32_t window) {
  if (loading(page)) return ReadStart::kAlreadyLoading;
  return read_into_buffer({.page = page, .window = window, .background = true});
}

SwapIo::ReadStart SwapIo::read_into_buffer(const Wish& wish) {
  const PageIndex page = wish.page;
  BALLAST_CHECK_THAT(vm_.state(page) == PageState::kSwapped, "page {} is {}", page.raw(),
                     name_of(vm_.state(page)));
  const uint32_t buffer = take_buffer(Use::kReading);
  if (buffer == kBuffers) return ReadStart::kBusy;
  Buffer& read = buffers_[buffer];
  const SwapSlot slot = *vm_.get(page).slot();
  const uint32_t limit =
      std::min({wish.window, kClusterPages, vm_.tables.page_count() - page.raw()});
  uint32_t count = 1;
  while (count < limit) {
    const PageEntry next = vm_.get(page + count);
    if (next.state() != PageState::kSwapped || next.slot() != slot + count || next.in_flight())
      break;
    if (vm_.discard_bit(page + count) || loading(page + count)) break;
    ++count;
  }
  count = vm_.charge_frames(count);
  if (count == 0) {
    read.use = Use::kFree;
    return ReadStart::kNoMemory;
  }
  read.write_fault = wish.write;
  read.background = wish.background;
  read.tries = wish.tries;
  read.count = count;
  read.outstanding = 1;
  for (uint32_t i = 0; i < count; ++i) {
    read.pages[i] = page + i;
    read.slots[i] = slot + i;
  }
  ++reads_;
  vm_.reading[buffer] = {{slot, count}, 0};
  vm_.swap.read(slot, memory_.run(buffer * kClusterPages, count), buffer);
  vm_.swap.submit();
  return ReadStart::kStarted;
}

bool SwapIo::readable_now(const Buffer& read, uint32_t index,
                          std::span<const std::byte, kPageBytes> bytes) {
  return read.status == machine::IoStatus::kOk &&
         page_checksum(bytes, vm_.tables.key()) == vm_.tables.checksum(read.slots[index]);
}

void SwapIo::read_done(uint32_t buffer) {
  Buffer& read = buffers_[buffer];
  --reads_;
  const Vm::Reading reading = std::exchange(vm_.reading[buffer], {});
  for (uint32_t i = 0; i < reading.run.count; ++i) {
    if ((reading.orphans >> i & 1) != 0) vm_.slots.release(reading.run.first + i);
  }
  const Buffer done = read;  // a retry may take the buffer over
  bool first_is_bad = false;
  uint32_t good_from = 0;
  uint32_t good = 0;
  const auto install = [&] {
    if (good > 0) install_read(buffer, good_from, good);
    good = 0;
  };
  for (uint32_t i = 0; i < done.count; ++i) {
    const PageEntry entry = vm_.get(done.pages[i]);
    const bool still_wanted = entry.state() == PageState::kSwapped &&
                              entry.slot() == done.slots[i] && !vm_.take_discard(done.pages[i]);
    if (still_wanted && readable_now(done, i, bytes_of(buffer, i))) {
      if (good == 0) good_from = i;
      ++good;
      continue;
    }
    install();
    vm_.uncharge_frames(1);
    if (still_wanted && i == 0) {
      first_is_bad = true;
      continue;
    }
    // Somebody may wait for a page that was only read ahead; let him ask for it himself.
    (void)vm_.memory.wake({done.pages[i], 1});  // kGone shows on the next call
  }
  install();
  read.use = Use::kFree;
  // The page that somebody waits for is tried again; read-ahead is not worth it.
  if (!first_is_bad || vm_.gone) return;
  if (done.background) {
    ++failed_background_reads_;
    (void)vm_.memory.wake({done.pages[0], 1});  // who began to wait for it asks for it himself
  } else {
    unreadable(done, done.status != machine::IoStatus::kOk);
  }
}

void SwapIo::install_read(uint32_t buffer, uint32_t from, uint32_t count) {
  const Buffer& read = buffers_[buffer];
  uint32_t done = 0;
  while (done < count && !vm_.gone) {
    // The faulting page of a write comes back writable; everything else traps its first write, so
    // that what stays clean can go again without being written.
    const bool writable = from + done == 0 && read.write_fault;
    const uint32_t step = writable ? 1 : count - done;
    const PageIndex page = read.pages[from + done];
    const auto result =
        vm_.memory.install({page, step}, memory_.run(buffer * kClusterPages + from + done, step),
                           writable ? machine::Sealing::kWritable : machine::Sealing::kSealed);
    const PageState state = writable ? PageState::kResident : PageState::kSealed;
    for (uint32_t i = 0; i < result.installed; ++i)
      vm_.set(page + i, vm_.get(page + i).moved_to(state));
    vm_.counters.swap_ins += result.installed;
    done += result.installed;
    if (result.stop == machine::InstallStop::kDone) continue;
    if (result.stop == machine::InstallStop::kGone) vm_.gone = true;
    const PageIndex at = read.pages[from + done];
    if (result.stop == machine::InstallStop::kAlreadyPresent) {
      vm_.set(at, vm_.get(at).moved_to(PageState::kResident));
    } else {
      vm_.uncharge_frames(1);
    }
    (void)vm_.memory.wake(
        {at, 1});  // after kRetry the sleeper faults again, after kGone nobody sleeps
    ++done;
  }
  if (vm_.gone && done < count) vm_.uncharge_frames(count - done);
}

void SwapIo::unreadable(const Buffer& read, bool io_failed) {
  const PageIndex page = read.pages[0];
  if (read.tries + 1u < kReadTries) {
    const auto again = read_into_buffer(
        {.page = page, .write = read.write_fault, .tries = static_cast<uint8_t>(read.tries + 1)});
    if (again == ReadStart::kStarted) return;
    if (again == ReadStart::kNoMemory || again == ReadStart::kBusy) {
      (void)vm_.memory.wake({page, 1});  // the sleeper faults again and waits its turn
      return;
    }
  }
  vm_.set(page, vm_.get(page).moved_to(PageState::kLost));
  vm_.control.freeze(kPageIsLost);
  vm_.control.event(
      machine::Severity::kError, "page.lost",
      fmt::format(
          "{} is paused: its page {} cannot be read back from swap slot {}: {}. The VM was given "
          "nothing false. Repair the disk under the swap directory, then: ballast resume {}",
          vm_.spec.name, page.raw(), read.slots[0].raw(),
          io_failed ? "input/output error" : "the bytes do not match their checksum",
          vm_.spec.name));
}

bool SwapIo::poll() {
  machine::IoDone done[16];
  bool any = false;
  while (const size_t count = vm_.swap.poll(done)) {
    any = true;
    for (size_t i = 0; i < count; ++i) {
      const auto index = static_cast<uint32_t>(done[i].token);
      Buffer& buffer = buffers_[index];
      BALLAST_CHECK_THAT(index < kBuffers && buffer.outstanding > 0, "token {}", index);
      if (done[i].status != machine::IoStatus::kOk) {
        buffer.failed = true;
        buffer.status = done[i].status;
      }
      if (--buffer.outstanding > 0) continue;
      if (buffer.use == Use::kWriting) {
        written(index);
      } else {
        read_done(index);
      }
    }
  }
  return any;
}

uint64_t SwapIo::slots_in_flight() const {
  uint64_t slots = 0;
  for (const Buffer& buffer : buffers_) slots += buffer.use == Use::kWriting ? buffer.count : 0;
  for (const Vm::Reading& read : vm_.reading)
    slots += static_cast<uint64_t>(std::popcount(read.orphans));
  return slots;
}

uint64_t SwapIo::frames_reserved() const {
  uint64_t frames = 0;
  for (const Buffer& buffer : buffers_) frames += buffer.use == Use::kReading ? buffer.count : 0;
  return frames;
}

uint32_t SwapIo::retry_lost() {
  uint32_t retried = 0;
  for (uint32_t index = 0; index < vm_.tables.page_count() && vm_.count(PageState::kLost) > 0;
       ++index) {
    const PageIndex page(index);
    const PageEntry entry = vm_.get(page);
    if (entry.state() != PageState::kLost || !entry.slot()) continue;
    vm_.set(page, entry.moved_to(PageState::kSwapped));
    if (vm_.memory.wake({page, 1}) == machine::MemoryResult::kGone) vm_.gone = true;
    ++retried;
  }
  return retried;
}

}  // namespace ballast::engine
