// Page contents of simulated guests: what a half page holds follows from who wrote it when, so
// nothing needs keeping.
//
// Some contents are common: they are those of a disk image that all guests have, each from another
// page on, so that runs of one guest's pages equal runs of another's.
//
// A half page (2 KiB) is written in one access; its bytes carry VM, place, version and kind, so a
// stale or foreign page names itself. Halves make pages whose parts have different ages, as a real
// CPU's small stores do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/units.h"

namespace ballast::simulator {

inline constexpr size_t kHalfBytes = kPageBytes / 2;
using Half = std::span<std::byte, kHalfBytes>;
using ConstHalf = std::span<const std::byte, kHalfBytes>;

enum class Kind : uint8_t {
  kZero,    // carries no name: only zeros
  kStamp,   // a name, then zeros
  kRepeat,  // the name, again and again
  kText,    // compresses to about 40 %
  kNoise,   // does not compress
  kCommon,  // of the image, in one of its versions; noise or text
};
inline constexpr uint32_t kKinds = 6;
inline constexpr uint32_t kOwnKinds = 5;  // those before kCommon
inline constexpr uint32_t kImagePages = 384;
inline constexpr uint32_t kImageVersions = 3;  // 1, 2, 3

struct Content {
  Kind kind = Kind::kZero;
  uint32_t version = 0;  // of this half page; 0 = never written
  bool operator==(const Content&) const = default;
};

struct Place {
  uint32_t vm = 0;
  uint32_t half = 0;  // page * 2 + 0 or 1
};

// The image's page that is a guest's page, if that holds common content.
uint32_t image_page(uint32_t vm, uint32_t page);

void write_half(Half to, Place place, Content content);
bool is_zero(ConstHalf bytes);
// Whether `bytes` are exactly this content.
bool holds(ConstHalf bytes, Place place, Content content);

struct Name {
  Place place;
  Content content;
};
// What the bytes say they are; common ones name no VM, and the image's half page. The rest of the
// bytes is not checked.
std::optional<Name> read_name(ConstHalf bytes);

}  // namespace ballast::simulator
