#include "simulator/fluid/measures.h"

#include <algorithm>
#include <cmath>

#include "engine/policy/host_state.h"
#include "engine/policy/shares.h"

namespace ballast::simulator::fluid {

namespace {

constexpr double kSatisfied = 0.95;
// Less than this is the step's own rounding, or on its way.
constexpr Bytes kTolerated = 2 * kMb;

Bytes most_of(const Vm& vm) {
  return to_bytes(max_bytes(vm.plan.allocation, to_count(vm.plan.configured)));
}

// What the guest would use if it had the memory, up to its limit: in use but not there, and page
// cache taken away.
Bytes lacking(const Vm& vm) {
  const Guest& guest = vm.guest;
  return std::max(0.0, std::min(guest.wanted() + guest.wanted_cache(), most_of(vm)) -
                           guest.resident().in_use() - guest.resident().cache);
}

}  // namespace

Measures::Measures(const World& world) : world_(world) {
  step_times_.assign(world.plan().steps.size(), -1);
  figures_.lowest_free = world.free();
}

void Measures::observe() {
  for (const auto& vm : world_.vms()) {
    figures_.host_stall += vm->lived.host_stall;
    figures_.guest_stall += vm->lived.guest_stall;
    figures_.compressed += vm->zipped_out;
    figures_.swapped_out += vm->swapped_out;
    figures_.paged_in += vm->lived.read;
    figures_.blocked += vm->blocked ? kStep : 0;
    const Bytes entitled =
        std::min(to_bytes(vm->plan.allocation.min_bytes), vm->guest.wanted()) + vm->plan.overhead;
    const bool waits = vm->lived.host_stall > 0.01 * kStep;
    if (waits && vm->consumed() < entitled - kTolerated) figures_.below_min += kStep / 60;
  }
  free_sum_ += world_.free() * kStep;
  figures_.lowest_free = std::min(figures_.lowest_free, world_.free());
  observe_steps();
  observe_overshoot();
  if (world_.now() >= next_fairness_) {
    next_fairness_ += 1;
    observe_fairness();
  }
}

void Measures::observe_steps() {
  const auto& steps = world_.plan().steps;
  for (size_t i = 0; i < steps.size(); ++i) {
    if (step_times_[i] >= 0 || world_.now() < steps[i].at + kStep / 2) continue;
    const Vm* vm = world_.find(world_.plan().vms[steps[i].vm]);
    if (vm == nullptr) continue;  // not even started
    const Bytes touched = std::max(vm->guest.wanted_hot(), vm->plan.boot_zeroes);
    // A step counts from the first time the guest has seen it.
    if (world_.now() < steps[i].at + 1.5 * kStep) continue;
    if (vm->guest.missing() <= (1 - kSatisfied) * touched) {
      step_times_[i] = world_.now() - steps[i].at;
    }
  }
}

void Measures::observe_overshoot() {
  Bytes lack = 0;
  for (const auto& vm : world_.vms()) lack += lacking(*vm);
  const Bytes kept = to_bytes(engine::min_free_bytes(to_count(world_.plan().memory),
                                                     world_.plan().options.min_free_percent));
  const Bytes excess = std::min(lack, world_.free() - kept);
  if (excess <= 0) return;
  figures_.overshoot += excess / kGb * kStep;
  figures_.overshoot_peak = std::max(figures_.overshoot_peak, excess);
}

void Measures::observe_fairness() {
  std::vector<engine::Claim> claims;
  std::vector<Bytes> held;
  Bytes pool = 0;
  Bytes wanted = 0;
  for (const auto& vm : world_.vms()) {
    const Guest& guest = vm->guest;
    if (guest.wanted() <= 0 || guest.wanted_hot() < guest.wanted() / 2) continue;
    const Bytes most = std::min(guest.wanted(), most_of(*vm));
    held.push_back(std::min(guest.resident().in_use(), most));
    pool += held.back();
    wanted += most;
    claims.push_back({.shares = static_cast<double>(
                          share_count(vm->plan.allocation.shares, to_count(vm->plan.configured))),
                      .active_bytes = to_count(most),
                      .min_bytes = std::min(vm->plan.allocation.min_bytes, to_count(most)),
                      .max_bytes = to_count(most)});
  }
  // Alone, or nobody lacks anything: nothing to be divided.
  if (claims.size() < 2 || pool >= wanted * 0.99) return;
  const auto fair = engine::solve_targets(to_count(pool), claims, {.rate = 0, .variable = false});
  double sum = 0;
  for (size_t i = 0; i < claims.size(); ++i) {
    const Bytes part = std::max(to_bytes(fair[i]), kMb);
    sum += std::abs(held[i] - part) / part;
  }
  unfair_sum_ += sum / static_cast<double>(claims.size());
  figures_.contended += 1;
}

Figures Measures::figures() const {
  Figures figures = figures_;
  figures.steps = step_times_.size();
  for (const double seconds : step_times_) {
    figures.steps_missed += seconds < 0 ? 1 : 0;
    figures.worst_step = std::max(figures.worst_step, seconds);
  }
  for (const auto& vm : world_.vms()) figures.guest_swapped += vm->guest.guest_swapped_out();
  figures.mean_free = world_.now() > 0 ? free_sum_ / world_.now() : world_.free();
  figures.unfairness = figures.contended > 0 ? unfair_sum_ / figures.contended : 0;
  return figures;
}

}  // namespace ballast::simulator::fluid
