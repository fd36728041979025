// The pages that explain: help, and the choice of columns.
#include <fmt/format.h>

#include <algorithm>

#include "top/screen.h"
#include "top/screen_parts.h"

namespace ballast::top {

namespace {

constexpr std::string_view kHelp =
    "ballast top: memory of this host and its VMs, as in esxtop\n"
    "\n"
    "  up, down        choose a VM            PgUp, PgDn   scroll a page\n"
    "  left, right     scroll the columns     Home, End    first, last VM\n"
    "  e, Enter        tell why the VM has the memory it has; again: no more\n"
    "  f, o            choose columns and their order\n"
    "  V               VMs only, or also Ballast itself and reservations\n"
    "  s               change the delay between updates\n"
    "  space           update now             ^L           draw the screen again\n"
    "  W               keep columns, order, sorting and delay in top.toml\n"
    "  q               quit                   h, ?         this page\n"
    "\n"
    "  sort by   N name       M MEMSZ (size)     B MCTLSZ (balloon)\n"
    "            C CNSM       A TCHD (active)    S SWCUR (swapped)\n"
    "            Z CACHEUSD (compressed)         r the other way round\n"
    "\n"
    "  A VM's name is red when it is paused or has lost a page, yellow when it waits\n"
    "  for memory, swaps in, or its balloon is stuck. '-' is a number not known.\n"
    "  'man ballast' says what each number counts.\n"
    "\n"
    "  Any key goes back.";

}  // namespace

std::vector<const Field*> fields_by_choice(const Settings& settings) {
  std::vector<const Field*> result;
  for (const std::string& name : settings.fields) {
    if (const Field* field = find_field(name)) result.push_back(field);
  }
  for (const Field& field : all_fields()) {
    if (std::ranges::find(result, &field) == result.end()) result.push_back(&field);
  }
  return result;
}

std::vector<std::string> help_page(const Size& size, bool colours) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin <= kHelp.size() && lines.size() < size.rows;) {
    const size_t end = std::min(kHelp.find('\n', begin), kHelp.size());
    Line line(size.columns, colours);
    line.add(kHelp.substr(begin, end - begin),
             lines.empty() ? cli::Colour::kBold : cli::Colour::kNone);
    lines.push_back(line.take());
    begin = end + 1;
  }
  return lines;
}

std::vector<std::string> fields_page(const View& view, const Size& size, bool colours) {
  const Settings& settings = view.settings;
  const auto plain = [&](std::string_view text, cli::Colour colour = cli::Colour::kNone) {
    return Line(size.columns, colours).add(text, colour).take();
  };
  std::vector<std::string> lines = {
      plain("Columns", cli::Colour::kBold),
      plain("space: show or not; left, right: earlier, later; s: sort by it; r: the other way"),
      plain("Enter: back to the VMs; W: keep this for the next start"),
      plain(view.note, cli::Colour::kYellow)};
  const auto fields = fields_by_choice(settings);
  for (size_t i = view.top_field; i < fields.size() && lines.size() < size.rows; ++i) {
    const Field& field = *fields[i];
    const bool is_chosen = std::ranges::find(settings.fields, field.name) != settings.fields.end();
    const bool is_here = field.name == view.field;
    const char* order = settings.sort != field.name ? ""
                        : settings.reverse          ? " (sorted, reversed)"
                                                    : " (sorted)";
    const std::string text = fmt::format("{} {} {:<8}  {}{}", is_here ? '>' : ' ',
                                         is_chosen ? '*' : ' ', field.name, field.meaning, order);
    Line line(size.columns, colours);
    line.add(text);
    lines.push_back(is_here ? line.reversed() : line.take());
  }
  if (lines.size() > size.rows) lines.resize(size.rows);
  return lines;
}

}  // namespace ballast::top
