#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace ballast {

void check_failed(const char* file, int line, const char* condition, std::string_view state) {
  std::fprintf(stderr, "ballast: BUG at %s:%d: %s%s%.*s\n", file, line, condition,
               state.empty() ? "" : "; ", static_cast<int>(state.size()), state.data());
  std::fflush(stderr);
  std::abort();
}

}  // namespace ballast
