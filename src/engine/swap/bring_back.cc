#include "engine/swap/bring_back.h"

#include <algorithm>

namespace ballast::engine {

namespace {
constexpr Nanoseconds kPauseAfterFailure = 60 * kSecond;
}

BringBack::BringBack(Vm& vm, SwapIo& io)
    : vm_(vm), io_(io), heat_((vm.tables.page_count() + kBlockPages - 1) / kBlockPages) {}

// Never so much that the host would have to take it away again soon.
bool BringBack::allowed() const {
  if (!vm_.orders.bring_back() || vm_.count(PageState::kSwapped) == 0 || io_.busy()) return false;
  if (vm_.ledger.state() > HostState::kClear) return false;
  const uint64_t bytes = pages_to_bytes(kReadPages);
  const uint64_t stop = vm_.ledger.stop_level();
  return vm_.ledger.free() >= stop + stop / 4 + bytes &&
         vm_.consumed() + bytes <= vm_.orders.target_bytes();
}

uint32_t BringBack::find_swapped(uint32_t from, uint32_t end) const {
  for (uint32_t page = from; page < end; ++page) {
    const PageEntry entry = vm_.get(PageIndex(page));
    if (entry.state() == PageState::kSwapped && !entry.in_flight() &&
        !vm_.discard_bit(PageIndex(page))) {
      return page;
    }
  }
  return end;
}

void BringBack::next_block() {
  const auto hottest = std::max_element(heat_.begin(), heat_.end());
  uint32_t block = static_cast<uint32_t>(hottest - heat_.begin());
  if (*hottest == 0) {
    block = sweep_ < heat_.size() ? sweep_ : 0;
    sweep_ = block + 1;
  }
  heat_[block] = 0;
  at_ = block * kBlockPages;
  block_end_ = std::min(at_ + kBlockPages, vm_.tables.page_count());
}

bool BringBack::turn() {
  if (!allowed()) return false;
  if (io_.failed_background_reads() != failures_) {
    failures_ = io_.failed_background_reads();
    paused_until_ = vm_.clock.now() + kPauseAfterFailure;
  }
  if (vm_.clock.now() < paused_until_) return false;
  for (uint32_t looked = 0; (at_ = find_swapped(at_, block_end_)) == block_end_; ++looked) {
    if (looked == kBlocksPerTurn) return false;
    next_block();
  }
  const uint64_t before = vm_.charged_frames;
  const auto start =
      io_.start_background_read(PageIndex(at_), std::min(kReadPages, block_end_ - at_));
  if (start != SwapIo::ReadStart::kStarted) return false;
  const uint64_t pages = vm_.charged_frames - before;
  vm_.counters.brought_back += pages;
  at_ += static_cast<uint32_t>(pages);
  return true;
}

}  // namespace ballast::engine
