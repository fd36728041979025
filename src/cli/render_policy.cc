// Allocations, what-if answers and options as text.
#include <algorithm>

#include "base/units.h"
#include "cli/format.h"
#include "cli/render.h"

namespace ballast::cli {

namespace {

std::string difference(uint64_t now, uint64_t then) {
  const uint64_t bytes = then > now ? then - now : now - then;
  if (bytes < uint64_t{1} << 20) return "=";  // rounding of the targets
  return (then > now ? "+" : "-") + compact_size(bytes);
}

std::vector<Cell> row_of(const WhatIfRow& row) {
  const bool has_less = !row.is_new && row.target_then_bytes < row.target_now_bytes;
  std::string bound = row.bound_then;
  if (!row.is_new && row.bound_now != row.bound_then) bound = row.bound_now + " -> " + bound;
  return {{row.name, row.is_new ? Colour::kGreen : Colour::kNone},
          {compact_size(row.configured_bytes)},
          {compact_size(row.min_bytes)},
          {row.limit_bytes == kNoLimit ? "none" : compact_size(row.limit_bytes)},
          {std::to_string(row.shares)},
          {compact_size(row.want_bytes)},
          {row.is_new ? "new" : compact_size(row.target_now_bytes)},
          {compact_size(row.target_then_bytes)},
          {difference(row.target_now_bytes, row.target_then_bytes),
           has_less ? Colour::kYellow : Colour::kNone},
          {bound}};
}

bool is_changed(const OptionReport& option) { return option.value != option.default_value; }

}  // namespace

std::string render_allocation(const VmReport& vm) {
  const Allocation& allocation = vm.spec.allocation;
  const bool has_default = allocation.balloon_max_bytes == kDefaultBalloonMax;
  return fmt::format("{}: min {}, limit {}, shares {} ({}), balloon at most {}{}\n",
                     printable(vm.spec.name), format_size(allocation.min_bytes),
                     limit_text(allocation.limit_bytes), vm.shares, shares_word(vm),
                     format_size(has_default ? vm.balloon_max_bytes : allocation.balloon_max_bytes),
                     has_default ? " (default)" : "");
}

std::string render_what_if(const WhatIfAnswer& answer, const Style& style) {
  Table table({{"NAME", Align::kLeft, true},
               {"CONFIG"},
               {"MIN"},
               {"LIMIT"},
               {"SHARES"},
               {"WANT"},
               {"TARGET NOW"},
               {"THEN"},
               {"CHANGE"},
               {"DECIDED BY", Align::kLeft}});
  bool has_new = false;
  for (const WhatIfRow& row : answer.rows) {
    table.add_row(row_of(row));
    has_new |= row.is_new;
  }
  std::string result = table.render(style);
  result +=
      fmt::format("Divided among the VMs: {} now, {} then\n", format_size(answer.divided_now_bytes),
                  format_size(answer.divided_then_bytes));
  if (has_new) {
    result += "New VMs are taken to use all their memory, actively: the worst case\n";
    if (answer.refusal.empty()) result += "They would be admitted\n";
  }
  if (!answer.refusal.empty()) {
    result += coloured(wrapped("It would be refused: " + printable(answer.refusal), 4, style),
                       Colour::kRed, style) +
              '\n';
  }
  return result;
}

std::string render_options(std::span<const OptionReport> options, const Style& style) {
  size_t names = 6;
  size_t values = 5;
  for (const OptionReport& option : options) {
    names = std::max(names, printable(option.name).size());
    values = std::max(values, printable(option.value).size());
  }
  const auto line = [&](const std::string& name, const std::string& value,
                        const std::string& meaning) {
    return wrapped(fmt::format("{:<{}}  {:>{}}  {}", printable(name), names, printable(value),
                               values, printable(meaning)),
                   names + values + 4, style);
  };
  std::string result = coloured(line("OPTION", "VALUE", "MEANING"), Colour::kBold, style) + '\n';
  for (const OptionReport& option : options) {
    std::string meaning = option.meaning;
    if (is_changed(option)) meaning += fmt::format(" (default {})", option.default_value);
    result += coloured(line(option.name, option.value, meaning),
                       is_changed(option) ? Colour::kYellow : Colour::kNone, style) +
              '\n';
  }
  return result;
}

std::string render_option(const OptionReport& option, const std::string& note) {
  std::string result = fmt::format("{} = {}", option.name, option.value);
  if (is_changed(option)) result += fmt::format(" (default {})", option.default_value);
  result += fmt::format("; {}\n", option.at_once ? "a change takes effect at once"
                                                 : "a change is for VMs that start from then on");
  result += fmt::format("  {}; allowed: {}\n", option.meaning, option.allowed);
  if (!note.empty()) result += fmt::format("  {}\n", note);
  return result;
}

}  // namespace ballast::cli
