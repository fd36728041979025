// Ledger: every byte that Ballast consumes on this host, against the budget. Host-wide; any thread;
// lock-free.
//
// Memory is charged *before* it is taken and given back *after* it is gone, so consumed() is at no
// instant less than the truth, and never exceeds the budget. The last `reserve` bytes are for
// reclaim alone: storing a page compressed may take a slab before it frees frames.
//
// The host state (policy/host_state.h) lives where free memory is counted: whoever charges or gives
// back across a threshold moves it, so all workers see one state at once and nobody polls for it.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>

#include "base/check.h"
#include "engine/policy/host_state.h"

namespace ballast::engine {

class Ledger {
 public:
  explicit Ledger(uint64_t budget_bytes) : budget_(budget_bytes) {}
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  // For guests' faults and new VMs: leaves the reserve alone.
  [[nodiscard]] bool try_charge(uint64_t bytes) {
    // Many VMs that were taken over may want more reserve than there is.
    const uint64_t reserve = reserve_.load(std::memory_order_relaxed);
    if (reserve < budget_ && charge_up_to(budget_ - reserve, bytes)) return true;
    pressure();
    return false;
  }
  // For reclaim, which frees more than it takes.
  [[nodiscard]] bool try_charge_for_reclaim(uint64_t bytes) { return charge_up_to(budget_, bytes); }
  // Memory that a VM holds already when a new daemon takes it over: a fact, even above the budget.
  // Credit pays first. With add_credit and drop_credit: one thread only.
  void charge_existing(uint64_t bytes) {
    const uint64_t paid = bytes < credit_ ? bytes : credit_;
    credit_ -= paid;
    raise_peak(consumed_.fetch_add(bytes - paid, std::memory_order_relaxed) + bytes - paid);
    follow_free();
  }
  // What was charged for a VM by estimate, until its take-over charges it exactly: in between
  // nobody else gets it.
  void add_credit(uint64_t bytes) { credit_ += bytes; }
  void drop_credit() {
    uncharge(credit_);
    credit_ = 0;
  }
  void uncharge(uint64_t bytes) {
    const uint64_t before = consumed_.fetch_sub(bytes, std::memory_order_relaxed);
    BALLAST_CHECK_THAT(before >= bytes, "consumed {} uncharged {}", before, bytes);
    follow_free();
  }

  uint64_t budget() const { return budget_; }
  uint64_t consumed() const { return consumed_.load(std::memory_order_relaxed); }
  uint64_t free() const {
    const uint64_t used = consumed();
    return used < budget_ ? budget_ - used : 0;
  }
  uint64_t peak() const { return peak_.load(std::memory_order_relaxed); }

  // Set by the host's policy; any thread may be charging meanwhile.
  void set_thresholds(uint64_t reserve, const Thresholds& thresholds) {
    reserve_.store(reserve, std::memory_order_relaxed);
    for (size_t i = 0; i < kHostStates; ++i) {
      enter_[i].store(thresholds.enter[i], std::memory_order_relaxed);
      leave_[i].store(thresholds.leave[i], std::memory_order_relaxed);
    }
    follow_free();
  }
  HostState state() const { return state_.load(std::memory_order_relaxed); }
  // Looks at free memory again: a rise goes one state at a time, so somebody has to ask repeatedly.
  void follow_free();
  // What reclaim aims at: where the soft state is left.
  uint64_t stop_level() const {
    return leave_[static_cast<size_t>(HostState::kSoft)].load(std::memory_order_relaxed);
  }

  // Called (from any thread, must not block) when the state changes or a charge fails.
  void set_pressure_hook(std::function<void()> hook) { hook_ = std::move(hook); }

 private:
  bool charge_up_to(uint64_t limit, uint64_t bytes) {
    uint64_t before = consumed_.load(std::memory_order_relaxed);
    do {
      if (before > limit || limit - before < bytes) return false;
    } while (!consumed_.compare_exchange_weak(before, before + bytes, std::memory_order_relaxed));
    raise_peak(before + bytes);
    follow_free();
    return true;
  }
  void raise_peak(uint64_t value) {
    uint64_t peak = peak_.load(std::memory_order_relaxed);
    while (value > peak && !peak_.compare_exchange_weak(peak, value, std::memory_order_relaxed)) {
    }
  }
  Thresholds thresholds() const {
    Thresholds thresholds;
    for (size_t i = 0; i < kHostStates; ++i) {
      thresholds.enter[i] = enter_[i].load(std::memory_order_relaxed);
      thresholds.leave[i] = leave_[i].load(std::memory_order_relaxed);
    }
    return thresholds;
  }
  void pressure() {
    if (hook_) hook_();
  }

  const uint64_t budget_;
  std::atomic<uint64_t> consumed_ = 0;
  std::atomic<uint64_t> peak_ = 0;
  uint64_t credit_ = 0;
  std::atomic<uint64_t> reserve_ = 0;
  std::atomic<HostState> state_ = HostState::kHigh;
  std::array<std::atomic<uint64_t>, kHostStates> enter_{};  // Thresholds
  std::array<std::atomic<uint64_t>, kHostStates> leave_{};
  std::function<void()> hook_;
};

inline void Ledger::follow_free() {
  HostState now = state();
  while (true) {
    const HostState next = next_state(now, free(), thresholds());
    if (next == now) return;
    // Free memory is read anew after every change: the last of two racing charges has the last
    // word.
    if (!state_.compare_exchange_weak(now, next, std::memory_order_relaxed)) continue;
    pressure();
    if (next < now) return;  // one state at a time upwards
    now = next;
  }
}

}  // namespace ballast::engine
