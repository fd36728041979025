// What a terminal sends, as keys. Bytes may come in any pieces: over a slow line an arrow's escape
// sequence arrives in two.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ballast::top {

// Printable characters are themselves.
enum Key : int {
  kEnter = '\n',
  kEscape = 0x1b,
  kBackspace = 0x7f,
  kRedraw = 0x0c,  // ^L
  kUp = 0x100,
  kDown,
  kLeft,
  kRight,
  kPageUp,
  kPageDown,
  kHome,
  kEnd,
  kUnknown,  // a sequence that means nothing here
};

class KeyDecoder {
 public:
  // The keys that are complete now.
  std::vector<int> feed(std::string_view bytes);
  // An escape that nothing has followed for a while was the key of that name.
  std::vector<int> flush();
  bool pending() const { return !pending_.empty(); }

 private:
  std::string pending_;
};

}  // namespace ballast::top
