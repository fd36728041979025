// What an operator may have meant: for refusals of unknown names.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace ballast {

// The one of `known` that differs from `word` by a slip or two of the fingers, by case, or by a
// missing prefix such as "Mem."; empty if none does.
std::string_view nearest(std::string_view word, std::span<const std::string_view> known);

// " (did you mean Mem.IdleTax?)", or nothing.
std::string did_you_mean(std::string_view word, std::span<const std::string_view> known);

}  // namespace ballast
