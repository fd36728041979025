// Parts of screen.cc.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/table.h"
#include "top/view.h"

namespace ballast::top {

// One line of the screen: parts one after another, cut at the screen's edge.
class Line {
 public:
  Line(size_t columns, bool colours) : left_(columns), style_{.colours = colours, .width = 0} {}
  Line& add(std::string_view text, cli::Colour colour = cli::Colour::kNone);
  // In reverse video, all across: the text so far must have had no colours.
  std::string reversed() const;
  std::string take() { return std::move(text_); }

 private:
  size_t left_;
  cli::Style style_;
  std::string text_;
};

// The seven lines above the table.
std::vector<std::string> head_lines(const View& view, const Size& size, bool colours);
inline constexpr size_t kHeadLines = 7;

std::vector<std::string> help_page(const Size& size, bool colours);
std::vector<std::string> fields_page(const View& view, const Size& size, bool colours);
// Lines of the page of fields above its list.
inline constexpr size_t kFieldsHead = 4;

}  // namespace ballast::top
