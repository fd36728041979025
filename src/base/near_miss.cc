#include "base/near_miss.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <vector>

namespace ballast {

namespace {

// Longer words are no slip of ours, and the table below grows with their product.
constexpr size_t kWordBytesMax = 64;

std::string lower(std::string_view word) {
  std::string result(word);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

// Insertions, deletions, replacements and swaps of neighbours that make `a` out of `b`.
size_t slips_between(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> slips(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        slips[i][j] = i + j;
        continue;
      }
      const size_t replaced = slips[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      slips[i][j] = std::min({replaced, slips[i - 1][j] + 1, slips[i][j - 1] + 1});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        slips[i][j] = std::min(slips[i][j], slips[i - 2][j - 2] + 1);
      }
    }
  }
  return slips[a.size()][b.size()];
}

}  // namespace

std::string_view nearest(std::string_view word, std::span<const std::string_view> known) {
  if (word.empty() || word.size() > kWordBytesMax) return {};
  const std::string wanted = lower(word);
  std::string_view best;
  size_t fewest = 1 + std::max<size_t>(1, wanted.size() / 4);  // more is another word
  for (const std::string_view candidate : known) {
    const std::string whole = lower(candidate);
    const std::string tail = whole.substr(whole.find('.') + 1);
    const size_t slips = std::min(slips_between(wanted, whole), slips_between(wanted, tail));
    if (slips >= fewest) continue;
    fewest = slips;
    best = candidate;
  }
  return best;
}

std::string did_you_mean(std::string_view word, std::span<const std::string_view> known) {
  const std::string_view meant = nearest(word, known);
  return meant.empty() ? std::string() : fmt::format(" (did you mean {}?)", meant);
}

}  // namespace ballast
