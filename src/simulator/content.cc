#include "simulator/content.h"

#include <algorithm>
#include <cstring>

namespace ballast::simulator {

namespace {

constexpr uint32_t kMark = 0xba11a500;
constexpr uint32_t kNoVm = ~uint32_t{0};
constexpr uint32_t kImageShift = 5;  // pages from one guest to the next

struct Stamp {
  uint32_t mark;  // kMark + kind
  uint32_t vm;
  uint32_t half;
  uint32_t version;
};
static_assert(sizeof(Stamp) == 16 && kHalfBytes % sizeof(Stamp) == 0);

uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

}  // namespace

uint32_t image_page(uint32_t vm, uint32_t page) {
  return (page + kImageShift * (vm % 3)) % kImagePages;
}

void write_half(Half to, Place place, Content content) {
  const bool common = content.kind == Kind::kCommon;
  if (common) place = {kNoVm, image_page(place.vm, place.half / 2) * 2 + place.half % 2};
  const bool text = content.kind == Kind::kText || (common && content.version % 2 == 0);
  if (content.kind == Kind::kZero || content.kind == Kind::kStamp) {
    std::memset(to.data(), 0, to.size());
    if (content.kind == Kind::kZero) return;
  }
  const Stamp stamp{kMark + static_cast<uint32_t>(content.kind), place.vm, place.half,
                    content.version};
  std::memcpy(to.data(), &stamp, sizeof(stamp));
  const uint64_t seed = mix((uint64_t{place.vm} << 32 | place.half) * 0x9e3779b97f4a7c15 +
                            content.version * uint64_t{0xd1342543de82ef95});
  for (size_t at = sizeof(stamp); at < to.size(); at += sizeof(Stamp)) {
    uint64_t words[2] = {mix(seed + at), mix(seed ^ ~at)};
    if (content.kind == Kind::kRepeat) std::memcpy(words, &stamp, sizeof(stamp));
    // Text: every third piece is new, the others are phrases that repeat.
    if (text && at % 48 != 0) {
      std::memcpy(words, at % 48 == 16 ? "the quick brown " : "fox jumps over t", sizeof(words));
    }
    if (content.kind != Kind::kStamp) std::memcpy(to.data() + at, words, sizeof(words));
  }
}

bool is_zero(ConstHalf bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

bool holds(ConstHalf bytes, Place place, Content content) {
  alignas(16) std::byte expected[kHalfBytes];
  write_half(Half(expected), place, content);
  return std::memcmp(bytes.data(), expected, kHalfBytes) == 0;
}

std::optional<Name> read_name(ConstHalf bytes) {
  Stamp stamp;
  std::memcpy(&stamp, bytes.data(), sizeof(stamp));
  const uint32_t kind = stamp.mark - kMark;
  if (kind == 0 || kind >= kKinds) return std::nullopt;
  return Name{{stamp.vm, stamp.half}, {static_cast<Kind>(kind), stamp.version}};
}

}  // namespace ballast::simulator
