// The screen of `ballast top` as text. Pure; golden texts in screen_test.cc show what it looks
// like.
#pragma once

#include <string>
#include <vector>

#include "top/fields.h"
#include "top/view.h"

namespace ballast::top {

// At most size.rows lines, joined by newlines, none wider than size.columns. ASCII whatever comes
// in; escapes for colours only, and only when they are wanted.
std::string render(const View& view, const Size& size, bool colours);

// Puts right what time, keys and the terminal's size made wrong: the selected row exists and is in
// sight, nothing is scrolled past its end. To be called before render().
void settle(View& view, const Size& size);

// How many lines of the table a screen of this size has room for.
size_t table_height(const Size& size);
// All fields, the chosen ones first and in their order: the page of fields.
std::vector<const Field*> fields_by_choice(const Settings& settings);

}  // namespace ballast::top
