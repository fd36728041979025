// libFuzzer: the first byte is the number of descriptors, the rest the text of a hand-off.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "base/units.h"
#include "machine/linux/hand_off.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ballast;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto result = linux_machine::parse_hand_off(text, data[0]);
  if (!result) {
    BALLAST_CHECK(!result.error().message.empty());
    return 0;
  }
  uint64_t total_bytes = 0;
  for (const auto& region : result->regions) {
    BALLAST_CHECK(region.bytes > 0 && region.bytes % kPageBytes == 0);
    BALLAST_CHECK(region.address % kPageBytes == 0 &&
                  region.address + region.bytes > region.address);
    BALLAST_CHECK(region.ram_file < result->ram_files);
    total_bytes += region.bytes;
  }
  BALLAST_CHECK(total_bytes <= result->spec.configured_bytes);
  BALLAST_CHECK(result->spec.allocation.min_bytes <= result->spec.configured_bytes);
  BALLAST_CHECK(result->discards_at < data[0]);
  return 0;
}
