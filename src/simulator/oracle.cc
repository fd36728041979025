#include "simulator/oracle.h"

#include <fmt/format.h>

namespace ballast::simulator {

Content Oracle::next_write(uint32_t half, Kind kind) {
  HalfState& state = halves_[half];
  state.content = {kind, state.content.version + 1};
  state.discarded = open_[half / 2];
  return state.content;
}

void Oracle::discard_begins(uint32_t page) {
  open_[page] = true;
  halves_[size_t{page} * 2].discarded = true;
  halves_[size_t{page} * 2 + 1].discarded = true;
}

bool Oracle::acceptable(uint32_t half, ConstHalf bytes) const {
  const HalfState& state = halves_[half];
  if (holds(bytes, {vm_, half}, state.content)) return true;
  if (!state.discarded) return false;
  if (is_zero(bytes)) return true;
  const auto name = read_name(bytes);
  return name && name->place.vm == vm_ && name->place.half == half &&
         name->content.version <= state.content.version && holds(bytes, name->place, name->content);
}

std::string Oracle::describe(uint32_t half, ConstHalf bytes) const {
  const HalfState& state = halves_[half];
  std::string found = "neither zeros nor any guest's page";
  if (is_zero(bytes)) {
    found = "zeros";
  } else if (const auto name = read_name(bytes)) {
    found = fmt::format("{}VM {} page {}.{} version {} kind {}",
                        holds(bytes, name->place, name->content) ? "" : "a damaged ",
                        name->place.vm, name->place.half / 2, name->place.half % 2,
                        name->content.version, static_cast<int>(name->content.kind));
  }
  return fmt::format("VM {} page {}.{} must hold version {} kind {}{}, but reads as {}", vm_,
                     half / 2, half % 2, state.content.version,
                     static_cast<int>(state.content.kind),
                     state.discarded ? " (discarded: or older or zeros)" : "", found);
}

std::string Oracle::judge(uint32_t page, std::span<const std::byte, kPageBytes> bytes) const {
  for (uint32_t i = 0; i < 2; ++i) {
    const auto half = ConstHalf(bytes.subspan(i * kHalfBytes, kHalfBytes));
    if (!acceptable(page * 2 + i, half)) return describe(page * 2 + i, half);
  }
  return {};
}

}  // namespace ballast::simulator
