// BALLAST_CHECK: a bug in Ballast stops the program loudly, in every build.
//
// Never for what the world does (I/O, kernel, peers) nor for outside input: those are values
// (base/result.h). A dead daemon is harmless (guests pause, the next daemon takes over); a daemon
// that goes on with a broken invariant is not.
#pragma once

#include <fmt/format.h>

#include <string_view>

namespace ballast {

[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               std::string_view state);

}  // namespace ballast

#define BALLAST_CHECK(condition)                                   \
  do {                                                             \
    if (!(condition)) [[unlikely]] {                               \
      ::ballast::check_failed(__FILE__, __LINE__, #condition, {}); \
    }                                                              \
  } while (false)

// With state: BALLAST_CHECK_THAT(a == b, "page {} slot {}", page, slot).
#define BALLAST_CHECK_THAT(condition, ...)                                                 \
  do {                                                                                     \
    if (!(condition)) [[unlikely]] {                                                       \
      ::ballast::check_failed(__FILE__, __LINE__, #condition, ::fmt::format(__VA_ARGS__)); \
    }                                                                                      \
  } while (false)
