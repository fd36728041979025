#include "simulator/guest.h"

#include <algorithm>

#include "simulator/verdict.h"

namespace ballast::simulator {

Guest::Guest(uint32_t vm, const VmPlan& plan, machine::sim::SimGuestMemory& memory, uint64_t seed)
    : vm_(vm),
      plan_(plan),
      memory_(memory),
      random_(seed),
      oracle_(vm, plan.pages),
      vcpus_(plan.vcpus),
      ballooned_(plan.pages) {
  for (uint32_t page = plan.used_pages; page < plan.pages; ++page) unused_.push_back(page);
  for (const uint32_t weight : plan.workload.kinds) kind_weights_ += weight;
  for (Vcpu& vcpu : vcpus_) vcpu.cursor = random_.below(plan.used_pages);
  if (plan.workload.boot_storm) {
    vcpus_[0].cursor = 0;
    vcpus_[0].boot_left = plan.used_pages;
  }
}

bool Guest::step() {
  const bool has_begun = !discarding_.empty() || !pledged_.empty();
  if (random_.chance(has_begun ? 300 : plan_.discards)) {
    step_discard();
    return false;
  }
  return step_vcpu(random_.below(plan_.vcpus));
}

bool Guest::take_discard_notice() {
  const bool notice = discard_notice_;
  discard_notice_ = false;
  return notice;
}

bool Guest::step_vcpu(uint32_t index) {
  Vcpu& vcpu = vcpus_[index];
  if (memory_.asleep(index)) return false;
  if (!vcpu.open && !choose(vcpu)) return false;
  std::byte* frame = memory_.touch(index, vcpu.page, vcpu.write);
  if (frame == nullptr) return false;
  if (vcpu.write) {
    write_part(vcpu, frame);
  } else {
    check(vcpu.page, frame);
    vcpu.open = false;
  }
  ++vcpu.done;
  ++accesses_;
  return true;
}

uint32_t Guest::choose_page(Vcpu& vcpu) {
  const Workload& workload = plan_.workload;
  const uint32_t total = workload.random + workload.hot + workload.sequential;
  const uint32_t draw = random_.below(total);
  if (draw < workload.random) return random_.below(plan_.used_pages);
  if (draw < workload.random + workload.hot) {
    if (random_.chance(1)) hot_base_ = random_.below(plan_.used_pages);  // a new phase
    return (hot_base_ + random_.below(plan_.used_pages / 8 + 1)) % plan_.used_pages;
  }
  vcpu.cursor = (vcpu.cursor + 1) % plan_.used_pages;
  return vcpu.cursor;
}

Kind Guest::choose_kind() {
  uint32_t draw = random_.below(kind_weights_);
  for (uint32_t kind = 0; kind < kOwnKinds; ++kind) {
    if (draw < plan_.workload.kinds[kind]) return static_cast<Kind>(kind);
    draw -= plan_.workload.kinds[kind];
  }
  return Kind::kNoise;
}

// Pages of some blocks of the image hold its contents from the boot on, and again later.
void Guest::choose_content(Vcpu& vcpu, bool boots) {
  constexpr uint32_t kBlockPages = 16;
  const uint32_t image = image_page(vm_, vcpu.page.raw());
  const uint32_t of_block = image / kBlockPages * 367 % 1000;
  if (of_block < plan_.workload.common && random_.chance(boots ? 950 : plan_.workload.restored)) {
    vcpu.kind = Kind::kCommon;
    vcpu.version = boots || random_.chance(700) ? 1 : 1 + random_.below(kImageVersions);
    vcpu.halves = 0b11;
  } else {
    vcpu.kind = choose_kind();
  }
}

// A page that is shared now, if a few looks find one.
bool Guest::find_away(uint32_t& page) {
  constexpr int kLooks = 16;
  for (int i = 0; i < kLooks; ++i) {
    const uint32_t at = random_.below(plan_.used_pages);
    if (!memory_.away(PageIndex(at))) continue;
    page = at;
    return true;
  }
  return false;
}

bool Guest::choose(Vcpu& vcpu) {
  uint32_t page = 0;
  const bool boots = vcpu.boot_left > 0;
  if (boots) {
    page = plan_.used_pages - vcpu.boot_left--;
    vcpu.write = true;
    vcpu.halves = 0b11;
  } else {
    page = choose_page(vcpu);
    vcpu.write = random_.chance(plan_.workload.writes);
    vcpu.halves = static_cast<uint8_t>(1 + random_.below(3));
    if (plan_.spite != 0 && random_.chance(plan_.spite) && find_away(page)) vcpu.write = true;
  }
  if (!plan_.unruly_discards) {
    while (ballooned_[page]) page = (page + 1) % plan_.used_pages;  // some are always left
    if (oracle_.discarding(page)) return false;
  }
  vcpu.page = PageIndex(page);
  choose_content(vcpu, boots);
  vcpu.open = true;
  return true;
}

void Guest::write_part(Vcpu& vcpu, std::byte* frame) {
  // Now and then a write looks first, as read-modify-write does.
  if (random_.chance(250)) check(vcpu.page, frame);
  const uint32_t part = (vcpu.halves & 1) != 0 ? 0 : 1;
  const uint32_t half = vcpu.page.raw() * 2 + part;
  const Content content = oracle_.next_write(half, vcpu.kind, vcpu.version);
  write_half(Half(frame + part * kHalfBytes, kHalfBytes), {vm_, half}, content);
  vcpu.halves = static_cast<uint8_t>(vcpu.halves & ~(1u << part));
  vcpu.open = vcpu.halves != 0;
}

void Guest::check(PageIndex page, const std::byte* frame) {
  const std::string wrong =
      oracle_.judge(page.raw(), std::span<const std::byte, kPageBytes>(frame, kPageBytes));
  ++verified_;
  if (wrong.empty()) return;
  ++errors_;
  if (fatal_) fail(Verdict::kWrongData, wrong);
}

bool Guest::in_use(uint32_t page) const {
  return std::any_of(vcpus_.begin(), vcpus_.end(), [page](const Vcpu& vcpu) {
    return vcpu.open && vcpu.page == PageIndex(page);
  });
}

// ---- giving pages up

// What the agent inside QEMU does: bits, then the frames go one by one, then the bits again.
void Guest::step_discard() {
  if (discarding_.empty()) {
    choose_discard();
    begin_discard();
  } else if (discarded_ < discarding_.size()) {
    const size_t until = std::min(discarding_.size(), discarded_ + 1 + random_.below(16));
    while (discarded_ < until) memory_.release(PageIndex(discarding_[discarded_++]));
  } else {
    end_discard();
  }
  discard_notice_ = true;
}

void Guest::choose_discard() {
  inflating_ = !pledged_.empty();
  if (inflating_) {
    const size_t count = std::min<size_t>(pledged_.size(), 1 + random_.below(64));
    const auto end = pledged_.begin() + static_cast<std::ptrdiff_t>(count);
    discarding_.assign(pledged_.begin(), end);
    pledged_.erase(pledged_.begin(), end);
    return;
  }
  uint32_t first = random_.below(plan_.pages);
  // Often just behind what a vCPU is waiting for: where the engine reads ahead.
  const Vcpu& near = vcpus_[random_.below(plan_.vcpus)];
  if (near.open && random_.chance(400)) {
    first = std::min(near.page.raw() + 1 + random_.below(8), plan_.pages - 1);
  }
  if (plan_.spite != 0 && random_.chance(plan_.spite)) (void)find_away(first);
  const uint32_t count = random_.chance(500) ? 1 : 1 + random_.below(64);
  for (uint32_t page = first; page < std::min(first + count, plan_.pages); ++page) {
    if ((in_use(page) || ballooned_[page]) && !plan_.unruly_discards) break;
    discarding_.push_back(page);
  }
}

void Guest::begin_discard() {
  for (const uint32_t page : discarding_) {
    oracle_.discard_begins(page);
    memory_.set_discard_bit(PageIndex(page));
  }
  discarded_ = 0;
}

void Guest::end_discard() {
  for (const uint32_t page : discarding_) {
    memory_.set_discard_bit(PageIndex(page));
    oracle_.discard_ends(page);
    if (inflating_) balloon_.push_back(page);
  }
  discarding_.clear();
}

// ---- the balloon

uint32_t Guest::spare_pages() const {
  constexpr uint64_t kMost = 900;  // of 1000: the workload needs the rest
  return static_cast<uint32_t>(plan_.used_pages * std::min<uint64_t>(plan_.spare, kMost) / 1000);
}

bool Guest::can_spare(uint32_t page) const {
  return !ballooned_[page] && !oracle_.discarding(page) && (plan_.unruly_discards || !in_use(page));
}

machine::GuestStats Guest::memory() const {
  const uint64_t free_bytes = pages_to_bytes(unused_.size());
  return {.total_bytes = pages_to_bytes(plan_.pages),
          .free_bytes = free_bytes,
          .available_bytes = free_bytes + pages_to_bytes(spare_pages() - spared_)};
}

Guest::Page Guest::take_page() {
  constexpr int kTries = 16;
  const bool is_unused = !unused_.empty();
  uint32_t page = 0;
  bool found = false;
  if (is_unused) {
    page = unused_.back();
    found = can_spare(page);
    if (found) unused_.pop_back();
  } else if (spared_ < spare_pages()) {
    for (int i = 0; i < kTries && !found; ++i) {
      page = random_.below(plan_.used_pages);
      found = can_spare(page);
    }
    if (found) ++spared_;
  }
  if (!found) return Page::kNone;
  ballooned_[page] = true;
  pledged_.push_back(page);
  ++taken_;
  return is_unused ? Page::kFree : Page::kReclaimed;
}

bool Guest::return_page() {
  if (balloon_.empty()) return false;
  std::swap(balloon_[random_.below(static_cast<uint32_t>(balloon_.size()))], balloon_.back());
  put_back(balloon_.back());
  balloon_.pop_back();
  return true;
}

void Guest::put_back(uint32_t page) {
  ballooned_[page] = false;
  if (page >= plan_.used_pages) {
    unused_.push_back(page);
  } else {
    --spared_;
  }
}

// What QEMU was told already it goes on discarding.
void Guest::return_all() {
  if (inflating_) {
    for (const uint32_t page : discarding_) put_back(page);
  }
  inflating_ = false;
  for (const uint32_t page : pledged_) put_back(page);
  for (const uint32_t page : balloon_) put_back(page);
  pledged_.clear();
  balloon_.clear();
}

}  // namespace ballast::simulator
