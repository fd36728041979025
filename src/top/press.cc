#include "top/press.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "top/keys.h"
#include "top/rows.h"
#include "top/screen.h"

namespace ballast::top {

namespace {

struct SortKey {
  int key;
  std::string_view field;
};
constexpr std::array kSortKeys = {
    SortKey{'N', "NAME"}, SortKey{'M', "MEMSZ"}, SortKey{'B', "MCTLSZ"},   SortKey{'C', "CNSM"},
    SortKey{'A', "TCHD"}, SortKey{'S', "SWCUR"}, SortKey{'Z', "CACHEUSD"},
};

void sort_by(View& view, std::string_view field) {
  view.settings.sort = field;
  view.note = fmt::format("sorted by {}", field);
  view.follow = true;
}

void turn_round(View& view) {
  view.settings.reverse = !view.settings.reverse;
  view.note = fmt::format("sorted by {}{}", view.settings.sort,
                          view.settings.reverse ? ", the other way round" : "");
}

// Steps among the rows; all the way with a large one.
void select(View& view, int steps) {
  if (!view.observation) return;
  const auto rows = rows_of(*view.observation, view.settings);
  if (rows.empty()) return;
  const auto found =
      std::ranges::find_if(rows, [&](const Row& row) { return row.name == view.selected; });
  const int at = found == rows.end() ? 0 : static_cast<int>(found - rows.begin());
  const int last = static_cast<int>(rows.size()) - 1;
  view.selected = rows[static_cast<size_t>(std::clamp(at + steps, 0, last))].name;
  view.follow = true;
}

void scroll(View& view, const Size& size, int pages) {
  const size_t step = std::max<size_t>(table_height(size), 2) - 1;
  view.follow = false;
  if (pages > 0) {
    view.top_line += step;  // settle() knows the end
  } else {
    view.top_line -= std::min(view.top_line, step);
  }
}

void toggle_why(View& view) {
  if (view.expanded.erase(view.selected) == 0) view.expanded.insert(view.selected);
  view.follow = true;
}

Wish press_vms(View& view, int key, const Size& size) {
  for (const SortKey& one : kSortKeys) {
    if (one.key == key) sort_by(view, one.field);
  }
  switch (key) {
    case 'q':
      return Wish::kQuit;
    case kUp:
      select(view, -1);
      break;
    case kDown:
      select(view, 1);
      break;
    case kHome:
      select(view, -1'000'000);
      break;
    case kEnd:
      select(view, 1'000'000);
      break;
    case kPageUp:
      scroll(view, size, -1);
      break;
    case kPageDown:
      scroll(view, size, 1);
      break;
    case kLeft:
      view.first_column -= std::min<size_t>(view.first_column, 1);
      break;
    case kRight:
      ++view.first_column;
      break;
    case 'e':
    case kEnter:
      toggle_why(view);
      return Wish::kReadEvents;
    case 'r':
      turn_round(view);
      break;
    case 'f':
    case 'o':
      view.page = Page::kFields;
      break;
    case 'V':
      view.settings.only_vms = !view.settings.only_vms;
      view.note = view.settings.only_vms ? "VMs only" : "VMs, Ballast itself, reservations";
      break;
    case 's':
      view.prompt = "";
      break;
    case 'h':
    case '?':
      view.page = Page::kHelp;
      break;
    case ' ':
      return Wish::kUpdate;
    case 'W':
      return Wish::kSave;
    default:
      break;
  }
  return Wish::kNothing;
}

void step_field(View& view, int steps) {
  const auto fields = fields_by_choice(view.settings);
  const auto found =
      std::ranges::find_if(fields, [&](const Field* field) { return field->name == view.field; });
  const int at = found == fields.end() ? 0 : static_cast<int>(found - fields.begin());
  const int last = static_cast<int>(fields.size()) - 1;
  view.field = fields[static_cast<size_t>(std::clamp(at + steps, 0, last))]->name;
}

void toggle_field(View& view) {
  std::vector<std::string>& chosen = view.settings.fields;
  if (std::erase(chosen, view.field) == 0) chosen.push_back(view.field);
}

void move_field(View& view, int steps) {
  std::vector<std::string>& chosen = view.settings.fields;
  const auto found = std::ranges::find(chosen, view.field);
  if (found == chosen.end()) {
    view.note = "only columns that are shown (*) have an order";
    return;
  }
  const auto at = found - chosen.begin();
  const auto to = at + steps;
  if (to >= 0 && to < static_cast<std::ptrdiff_t>(chosen.size())) {
    std::swap(chosen[static_cast<size_t>(at)], chosen[static_cast<size_t>(to)]);
  }
}

Wish press_fields(View& view, int key) {
  switch (key) {
    case kUp:
      step_field(view, -1);
      break;
    case kDown:
      step_field(view, 1);
      break;
    case kHome:
    case kPageUp:
      step_field(view, key == kHome ? -1000 : -10);
      break;
    case kEnd:
    case kPageDown:
      step_field(view, key == kEnd ? 1000 : 10);
      break;
    case ' ':
      toggle_field(view);
      break;
    case kLeft:
      move_field(view, -1);
      break;
    case kRight:
      move_field(view, 1);
      break;
    case 's':
      sort_by(view, view.field);
      break;
    case 'r':
      turn_round(view);
      break;
    case 'W':
      return Wish::kSave;
    case 'q':
    case 'f':
    case 'o':
    case kEnter:
    case kEscape:
      view.page = Page::kVms;
      break;
    default:
      break;
  }
  return Wish::kNothing;
}

void take_delay(View& view) {
  const std::string text = *std::exchange(view.prompt, std::nullopt);
  if (text.empty()) return;
  double seconds = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  const bool is_number = problem == std::errc() && end == text.data() + text.size();
  if (!is_number || !(seconds >= kDelaySecondsMin && seconds <= kDelaySecondsMax)) {
    view.note = fmt::format("'{}' is no delay: seconds from {} to {} are needed", text,
                            kDelaySecondsMin, kDelaySecondsMax);
    return;
  }
  view.settings.delay_seconds = seconds;
  view.note = fmt::format("every {} s", seconds);
}

void press_prompt(View& view, int key) {
  std::string& text = *view.prompt;
  if (key == kEnter) {
    take_delay(view);
  } else if (key == kEscape) {
    view.prompt.reset();
  } else if (key == kBackspace) {
    if (!text.empty()) text.pop_back();
  } else if (key >= ' ' && key < kBackspace && text.size() < 12) {
    text += static_cast<char>(key);
  }
}

}  // namespace

Wish press(View& view, int key, const Size& size) {
  if (key == kRedraw) return Wish::kRedraw;
  view.note.clear();
  if (view.prompt) {
    press_prompt(view, key);
    return Wish::kNothing;
  }
  switch (view.page) {
    case Page::kVms:
      return press_vms(view, key, size);
    case Page::kFields:
      return press_fields(view, key);
    case Page::kHelp:
      view.page = Page::kVms;
      break;
  }
  return Wish::kNothing;
}

}  // namespace ballast::top
