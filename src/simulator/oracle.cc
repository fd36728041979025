#include "simulator/oracle.h"

#include <fmt/format.h>

namespace ballast::simulator {

Content Oracle::next_write(uint32_t half, Kind kind, uint32_t version) {
  HalfState& state = halves_[half];
  ++state.writes;
  state.content = {kind, kind == Kind::kCommon ? version : state.writes};
  if (kind == Kind::kCommon) state.common |= static_cast<uint8_t>(1u << version);
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
  if (!name || !holds(bytes, {vm_, half}, name->content)) return false;
  if (name->content.kind != Kind::kCommon) return name->content.version <= state.writes;
  return name->content.version <= kImageVersions &&
         (state.common >> name->content.version & 1) != 0;
}

std::string Oracle::describe(uint32_t half, ConstHalf bytes) const {
  const HalfState& state = halves_[half];
  std::string found = "neither zeros nor any guest's page";
  if (is_zero(bytes)) {
    found = "zeros";
  } else if (const auto name = read_name(bytes)) {
    const bool common = name->content.kind == Kind::kCommon;
    const bool whole =
        holds(bytes, common ? Place{0, name->place.half} : name->place, name->content);
    found = fmt::format("{}{} page {}.{} version {} kind {}", whole ? "" : "a damaged ",
                        common ? "the image's" : fmt::format("VM {}", name->place.vm),
                        name->place.half / 2, name->place.half % 2, name->content.version,
                        static_cast<int>(name->content.kind));
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
