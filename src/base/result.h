// Result<T>: a value, or an Error that says what failed, where, and what to do about it.
//
// For failures of the world and refused input. Bugs are BALLAST_CHECK. Member names follow
// std::expected, which g++ 12 lacks in C++20.
#pragma once

#include <cerrno>
#include <string>
#include <utility>
#include <variant>

#include "base/check.h"

namespace ballast {

struct Error {
  std::string message;   // one sentence for an operator
  int system_error = 0;  // errno, where one was the cause
};

// "open /x/y: No such file or directory": what failed plus errno's words.
Error system_error(const std::string& what, int error_number = errno);

template <typename T>
class [[nodiscard]] Result {
 public:
  // NOLINTNEXTLINE(google-explicit-constructor): `return value;` and `return Error{…};` are the
  // point.
  Result(T value) : content_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : content_(std::in_place_index<1>, std::move(error)) {}

  bool has_value() const { return content_.index() == 0; }
  explicit operator bool() const { return has_value(); }
  T& value() & {
    BALLAST_CHECK_THAT(has_value(), "{}", error().message);
    return std::get<0>(content_);
  }
  const T& value() const& {
    BALLAST_CHECK_THAT(has_value(), "{}", error().message);
    return std::get<0>(content_);
  }
  T&& value() && {
    BALLAST_CHECK_THAT(has_value(), "{}", error().message);
    return std::get<0>(std::move(content_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  const Error& error() const { return std::get<1>(content_); }

 private:
  std::variant<T, Error> content_;
};

struct Done {};
using Status = Result<Done>;

}  // namespace ballast

#define BALLAST_CONCAT_INNER(a, b) a##b
#define BALLAST_CONCAT(a, b) BALLAST_CONCAT_INNER(a, b)

// BALLAST_TRY(auto x, f()): x is f()'s value, or the enclosing function returns f()'s error.
#define BALLAST_TRY(declaration, expression) \
  BALLAST_TRY_INNER(BALLAST_CONCAT(ballast_try_, __LINE__), declaration, expression)
#define BALLAST_TRY_INNER(name, declaration, expression) \
  auto name = (expression);                              \
  if (!name) return std::move(name).error();             \
  declaration = std::move(name).value()

#define BALLAST_TRY_STATUS(expression)                                                      \
  do {                                                                                      \
    if (auto ballast_status = (expression); !ballast_status) return ballast_status.error(); \
  } while (false)
