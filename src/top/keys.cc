#include "top/keys.h"

#include <array>
#include <optional>

namespace ballast::top {

namespace {

constexpr size_t kSequenceMax = 16;  // nothing that is longer is a key

int key_of(std::string_view sequence) {
  struct Known {
    std::string_view sequence;
    int key;
  };
  constexpr std::array kKnown = {
      Known{"[A", kUp},      Known{"[B", kDown},      Known{"[C", kRight}, Known{"[D", kLeft},
      Known{"OA", kUp},      Known{"OB", kDown},      Known{"OC", kRight}, Known{"OD", kLeft},
      Known{"[5~", kPageUp}, Known{"[6~", kPageDown}, Known{"[H", kHome},  Known{"[F", kEnd},
      Known{"[1~", kHome},   Known{"[4~", kEnd},      Known{"OH", kHome},  Known{"OF", kEnd},
      Known{"[7~", kHome},   Known{"[8~", kEnd},
  };
  for (const Known& known : kKnown) {
    if (known.sequence == sequence) return known.key;
  }
  return kUnknown;
}

// The length of the sequence after an escape, when it is all there: "[" parameters final, "O"
// final.
std::optional<size_t> sequence_length(std::string_view text) {
  if (text.empty()) return std::nullopt;
  if (text[0] == 'O') return text.size() >= 2 ? std::optional<size_t>(2) : std::nullopt;
  if (text[0] != '[') return 0;  // an escape of its own, and another key
  for (size_t i = 1; i < text.size(); ++i) {
    if (text[i] >= 0x40 && text[i] <= 0x7e) return i + 1;
    if (i >= kSequenceMax) return i + 1;
  }
  return std::nullopt;
}

int plain_key(char byte) {
  if (byte == '\r') return kEnter;
  if (byte == '\b') return kBackspace;
  const auto value = static_cast<unsigned char>(byte);
  return value >= 0x80 ? static_cast<int>(kUnknown) : value;
}

}  // namespace

std::vector<int> KeyDecoder::feed(std::string_view bytes) {
  pending_ += bytes;
  std::vector<int> keys;
  std::string_view text = pending_;
  while (!text.empty()) {
    if (text[0] != kEscape) {
      keys.push_back(plain_key(text[0]));
      text.remove_prefix(1);
      continue;
    }
    const auto length = sequence_length(text.substr(1));
    if (!length) break;
    keys.push_back(*length == 0 ? static_cast<int>(kEscape) : key_of(text.substr(1, *length)));
    text.remove_prefix(1 + *length);
  }
  pending_ = std::string(text);
  return keys;
}

std::vector<int> KeyDecoder::flush() {
  if (pending_.empty()) return {};
  const int key = pending_.size() == 1 ? static_cast<int>(kEscape) : static_cast<int>(kUnknown);
  pending_.clear();
  return {key};
}

}  // namespace ballast::top
