// Table: rows of short texts, printed in aligned columns that fit a width. Pure; ASCII in, ASCII
// out (whatever else comes in, control characters above all, is printed as '?': names and messages
// may come from a guest).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace ballast::cli {

enum class Align { kLeft, kRight };
enum class Colour { kNone, kRed, kYellow, kGreen, kBold };

// How text is to look where it goes.
struct Style {
  bool colours = false;
  size_t width = 100;  // columns there are; 0: any number
};

struct Cell {
  std::string text;
  Colour colour = Colour::kNone;
};

struct Column {
  std::string title;
  Align align = Align::kRight;
  bool may_shrink = false;  // its texts lose their middle when the row is too wide
};

class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void add_row(std::vector<Cell> cells) { rows_.push_back(std::move(cells)); }
  // Titles and rows, each line ended by a newline, no blanks at line ends.
  std::string render(const Style& style) const;

 private:
  std::vector<size_t> column_widths(const Style& style) const;

  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

std::string printable(std::string_view text);
std::string coloured(const std::string& text, Colour colour, const Style& style);
// "a-very-long-name" in 8 columns: "a-v..ame".
std::string shortened(const std::string& text, size_t width);
// Breaks at blanks so that no line exceeds the width; lines after the first begin with `indent`
// blanks.
std::string wrapped(const std::string& text, size_t indent, const Style& style);

}  // namespace ballast::cli
