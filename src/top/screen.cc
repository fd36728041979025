#include "top/screen.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/render.h"
#include "top/rows.h"
#include "top/screen_parts.h"

namespace ballast::top {

namespace {

using cli::Colour;

constexpr size_t kNarrow = 100;  // columns; below, names get less of them
constexpr size_t kIndent = 4;    // of a VM's `why`

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

// One line of the table: a row, or a line of what is told below it.
struct TableLine {
  const Row* row = nullptr;
  std::string text;
};

std::vector<std::string> why_lines(const View& view, const VmReport& vm, size_t columns) {
  const cli::Style style{.colours = false,
                         .width = columns > kIndent + 20 ? columns - kIndent : size_t{20}};
  const auto events = view.events.find(vm.spec.name);
  const std::span<const Event> list =
      events == view.events.end() ? std::span<const Event>() : events->second;
  return split(cli::render_why(vm, view.observation->now, list, style));
}

std::vector<TableLine> table_lines(const View& view, const std::vector<Row>& rows, size_t columns) {
  std::vector<TableLine> lines;
  for (const Row& row : rows) {
    lines.push_back({&row, {}});
    if (row.vm == nullptr || !view.expanded.contains(row.name)) continue;
    for (const std::string& text : why_lines(view, *row.vm, columns)) {
      lines.push_back({nullptr, std::string(kIndent, ' ') + cli::printable(text)});
    }
  }
  return lines;
}

Colour name_colour(const Row& row) {
  if (row.vm == nullptr || trouble_of(row).empty()) return Colour::kNone;
  const bool is_bad = row.vm->state == "paused" || row.vm->lost_pages > 0;
  return is_bad ? Colour::kRed : Colour::kYellow;
}

// The columns that fit: the name, and the chosen fields from the first one on.
struct Columns {
  size_t name_width = 0;
  std::vector<const Field*> fields;
  bool more_left = false;
  bool more_right = false;
};

size_t name_width_of(const std::vector<Row>& rows, size_t columns) {
  const size_t most = columns < kNarrow ? 16 : 32;
  size_t width = 8;
  for (const Row& row : rows) width = std::max(width, row.name.size());
  return std::min(width, most);
}

Columns columns_of(const View& view, const std::vector<Row>& rows, size_t columns) {
  Columns result;
  result.name_width = name_width_of(rows, columns);
  size_t used = 1 + result.name_width;
  const std::vector<std::string>& names = view.settings.fields;
  for (size_t i = view.first_column; i < names.size(); ++i) {
    const Field* field = find_field(names[i]);
    if (field == nullptr) continue;
    used += 1 + field->width;
    if (used > columns) {
      result.more_right = true;
      break;
    }
    result.fields.push_back(field);
  }
  result.more_left = view.first_column > 0;
  return result;
}

std::string title_row(const View& view, const Columns& columns, const Size& size, bool colours) {
  const std::string title =
      fmt::format("NAME {}{}", columns.more_left ? "<" : "", columns.more_right ? ">" : "");
  const auto marked = [&](std::string_view name) {
    return view.settings.sort == name ? Colour::kGreen : Colour::kBold;
  };
  Line line(size.columns, colours);
  line.add(" ").add(fmt::format("{:<{}}", title, columns.name_width), marked("NAME"));
  for (const Field* field : columns.fields) {
    line.add(fmt::format(" {:>{}}", field->name, field->width), marked(field->name));
  }
  return line.take();
}

std::string row_line(const View& view, const Row& row, const Columns& columns, const Size& size,
                     bool colours) {
  const bool is_selected = row.name == view.selected;
  const auto colour = [&](Colour wanted) { return is_selected ? Colour::kNone : wanted; };
  Line line(size.columns, colours);
  line.add(is_selected ? ">" : " ");
  const std::string name = cli::shortened(cli::printable(row.name), columns.name_width);
  line.add(fmt::format("{:<{}}", name, columns.name_width), colour(name_colour(row)));
  for (const Field* field : columns.fields) {
    const bool worries =
        row.vm != nullptr && field->worries != nullptr && field->worries(*row.vm, row.rates);
    line.add(fmt::format(" {:>{}}", cell_text(*field, row), field->width),
             colour(worries ? Colour::kYellow : Colour::kNone));
  }
  return is_selected ? line.reversed() : line.take();
}

// "db is paused, web1 waits for memory": as many as the line holds.
void add_troubles(const cli::Observation& observation, Line& line) {
  bool is_first = true;
  for (const VmReport& vm : observation.now.vms) {
    const Row row{.name = vm.spec.name, .vm = &vm, .rates = observation.rates_of(vm), .known = {}};
    const std::string trouble = trouble_of(row);
    if (trouble.empty()) continue;
    line.add(is_first ? "" : ", ");
    line.add(fmt::format("{} {}", cli::printable(row.name), trouble), name_colour(row));
    is_first = false;
  }
}

// The line between head and table: a question, trouble, or what the last key did.
std::string message_line(const View& view, const Size& size, bool colours) {
  Line line(size.columns, colours);
  if (view.prompt) {
    line.add(fmt::format("Seconds between updates, {} to {} (now {}): {}", kDelaySecondsMin,
                         kDelaySecondsMax, view.settings.delay_seconds, *view.prompt),
             Colour::kBold);
  } else if (!view.waiting.empty()) {
    line.add("waiting for ballastd: " + cli::printable(view.waiting), Colour::kRed);
  } else if (!view.note.empty()) {
    line.add(cli::printable(view.note), Colour::kYellow);
  } else if (view.observation) {
    add_troubles(*view.observation, line);
  }
  return line.take();
}

std::vector<std::string> vms_page(const View& view, const Size& size, bool colours) {
  // On a low screen the table goes before the head.
  const size_t head = std::min(kHeadLines, size.rows > 5 ? size.rows - 5 : 0);
  std::vector<std::string> lines = head_lines(view, size, colours);
  lines.resize(head);
  lines.push_back(message_line(view, size, colours));
  if (!view.observation) return lines;
  const auto rows = rows_of(*view.observation, view.settings);
  const Columns columns = columns_of(view, rows, size.columns);
  lines.push_back(title_row(view, columns, size, colours));
  const auto table = table_lines(view, rows, size.columns);
  for (size_t i = view.top_line; i < table.size() && lines.size() < size.rows; ++i) {
    lines.push_back(table[i].row != nullptr
                        ? row_line(view, *table[i].row, columns, size, colours)
                        : Line(size.columns, colours).add(table[i].text).take());
  }
  if (view.observation->now.vms.empty()) {
    const auto hint = "No VM is running. Start one: ballast run --name NAME --memory SIZE -- ...";
    lines.push_back(Line(size.columns, colours).add(hint).take());
  }
  return lines;
}

void settle_fields(View& view, const Size& size) {
  const auto fields = fields_by_choice(view.settings);
  auto at = std::ranges::find_if(fields, [&](const Field* f) { return f->name == view.field; });
  if (at == fields.end()) at = fields.begin();
  view.field = (*at)->name;
  const auto index = static_cast<size_t>(at - fields.begin());
  const size_t height = size.rows > kFieldsHead ? size.rows - kFieldsHead : 1;
  if (index < view.top_field) view.top_field = index;
  if (index >= view.top_field + height) view.top_field = index + 1 - height;
  view.top_field = std::min(view.top_field, fields.size() - std::min(fields.size(), height));
}

void settle_columns(View& view) {
  const size_t chosen = view.settings.fields.size();
  view.first_column = std::min(view.first_column, chosen == 0 ? 0 : chosen - 1);
}

}  // namespace

Line& Line::add(std::string_view text, Colour colour) {
  const std::string part(text.substr(0, left_));
  left_ -= part.size();
  text_ += coloured(part, colour, style_);
  return *this;
}

std::string Line::reversed() const {
  if (!style_.colours) return text_;
  return "\x1b[7m" + text_ + std::string(left_, ' ') + "\x1b[0m";
}

size_t table_height(const Size& size) {
  const size_t head = std::min(kHeadLines, size.rows > 5 ? size.rows - 5 : 0);
  const size_t used = head + 2;
  return size.rows > used ? size.rows - used : 1;
}

std::string render(const View& view, const Size& size, bool colours) {
  std::vector<std::string> lines;
  switch (view.page) {
    case Page::kVms:
      lines = vms_page(view, size, colours);
      break;
    case Page::kFields:
      lines = fields_page(view, size, colours);
      break;
    case Page::kHelp:
      lines = help_page(size, colours);
      break;
  }
  if (lines.size() > size.rows) lines.resize(size.rows);
  std::string text;
  for (size_t i = 0; i < lines.size(); ++i) text += (i == 0 ? "" : "\n") + lines[i];
  return text;
}

void settle(View& view, const Size& size) {
  settle_columns(view);
  settle_fields(view, size);
  if (!view.observation) return;
  const auto rows = rows_of(*view.observation, view.settings);
  std::erase_if(view.expanded, [&](const std::string& name) {
    return std::ranges::none_of(
        rows, [&](const Row& row) { return row.vm != nullptr && row.name == name; });
  });
  if (rows.empty()) {
    view.top_line = 0;
    return;
  }
  const bool is_there =
      std::ranges::any_of(rows, [&](const Row& row) { return row.name == view.selected; });
  if (!is_there) view.selected = rows.front().name;
  const auto table = table_lines(view, rows, size.columns);
  const size_t height = table_height(size);
  if (view.follow) {
    const auto found = std::ranges::find_if(table, [&](const TableLine& line) {
      return line.row != nullptr && line.row->name == view.selected;
    });
    const auto at = static_cast<size_t>(found - table.begin());
    if (at < view.top_line) view.top_line = at;
    if (at >= view.top_line + height) view.top_line = at + 1 - height;
  }
  view.top_line = std::min(view.top_line, table.size() - std::min(table.size(), height));
}

}  // namespace ballast::top
