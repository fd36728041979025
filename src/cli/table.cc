#include "cli/table.h"

#include <algorithm>

namespace ballast::cli {

namespace {

constexpr size_t kGap = 2;
constexpr size_t kShrinkTo = 6;

const char* escape_of(Colour colour) {
  switch (colour) {
    case Colour::kRed:
      return "\x1b[31m";
    case Colour::kYellow:
      return "\x1b[33m";
    case Colour::kGreen:
      return "\x1b[32m";
    case Colour::kBold:
      return "\x1b[1m";
    case Colour::kNone:
      break;
  }
  return "";
}

}  // namespace

std::string printable(std::string_view text) {
  std::string result(text);
  std::replace_if(
      result.begin(), result.end(), [](char c) { return c < 0x20 || c > 0x7e; }, '?');
  return result;
}

std::string coloured(const std::string& text, Colour colour, const Style& style) {
  if (!style.colours || colour == Colour::kNone) return text;
  return escape_of(colour) + text + "\x1b[0m";
}

std::string shortened(const std::string& text, size_t width) {
  if (text.size() <= width) return text;
  if (width < 4) return text.substr(0, width);
  const size_t head = (width - 2 + 1) / 2;
  const size_t tail = width - 2 - head;
  return text.substr(0, head) + ".." + text.substr(text.size() - tail);
}

std::string wrapped(const std::string& text, size_t indent, const Style& style) {
  if (style.width == 0) return text;
  std::string result;
  size_t line_begin = 0;  // in text
  size_t room = style.width;
  while (text.size() - line_begin > room) {
    // The last blank that the line has room before; else the first one after: words stay whole.
    const size_t first_word = text.find_first_not_of(' ', line_begin);
    size_t end = text.rfind(' ', line_begin + room);
    if (end == std::string::npos || end <= first_word) end = text.find(' ', first_word);
    if (end == std::string::npos) break;
    result += text.substr(line_begin, end - line_begin) + '\n' + std::string(indent, ' ');
    line_begin = end + 1;
    room = style.width > indent ? style.width - indent : 1;
  }
  return result + text.substr(line_begin);
}

std::vector<size_t> Table::column_widths(const Style& style) const {
  std::vector<size_t> widths;
  size_t sum = 0;
  for (size_t i = 0; i < columns_.size(); ++i) {
    size_t widest = columns_[i].title.size();
    for (const auto& row : rows_) widest = std::max(widest, row[i].text.size());
    widths.push_back(widest);
    sum += widest + (i == 0 ? 0 : kGap);
  }
  for (size_t i = 0; i < columns_.size() && style.width > 0 && sum > style.width; ++i) {
    const size_t least = std::max(kShrinkTo, columns_[i].title.size());
    if (!columns_[i].may_shrink || widths[i] <= least) continue;
    const size_t taken = std::min(widths[i] - least, sum - style.width);
    widths[i] -= taken;
    sum -= taken;
  }
  return widths;
}

std::string Table::render(const Style& style) const {
  const std::vector<size_t> widths = column_widths(style);
  std::string result;
  const auto add_line = [&](const auto& cell_at) {
    std::string line;
    size_t pending = 0;  // blanks owed before the next text
    for (size_t i = 0; i < columns_.size(); ++i) {
      const Cell cell = cell_at(i);
      const std::string text = shortened(printable(cell.text), widths[i]);
      const size_t padding = widths[i] - text.size();
      const bool is_left = columns_[i].align == Align::kLeft;
      if (!is_left) pending += padding;
      if (!text.empty()) {
        line += std::string(pending, ' ') + coloured(text, cell.colour, style);
        pending = 0;
      }
      pending += (is_left ? padding : 0) + kGap;
    }
    result += line + '\n';
  };
  const bool has_titles = std::any_of(columns_.begin(), columns_.end(),
                                      [](const Column& column) { return !column.title.empty(); });
  if (has_titles) add_line([&](size_t i) { return Cell{columns_[i].title, Colour::kBold}; });
  for (const auto& row : rows_) add_line([&](size_t i) { return row[i]; });
  return result;
}

}  // namespace ballast::cli
