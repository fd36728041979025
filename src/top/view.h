// View: all that the screen of `ballast top` shows. Plain data: press.h changes it for keys,
// settle() for what has changed otherwise, screen.h makes text of it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cli/rates.h"
#include "top/settings.h"

namespace ballast::top {

struct Size {
  size_t columns = 80;
  size_t rows = 24;
  bool operator==(const Size&) const = default;
};

enum class Page { kVms, kFields, kHelp };

struct View {
  // What the daemon said last; empty until it has.
  std::optional<cli::Observation> observation;
  uint64_t unix_ms = 0;                              // when it said so
  std::string waiting;                               // why it says nothing now; empty: it answers
  std::map<std::string, std::vector<Event>> events;  // the last few of expanded VMs

  Settings settings;
  Page page = Page::kVms;
  std::string note;                   // what the last key did, or why not
  std::optional<std::string> prompt;  // what was typed so far of a new delay

  // The table.
  std::string selected;            // a row's name; rows move, so no index
  std::set<std::string> expanded;  // VMs whose `why` is shown
  size_t top_line = 0;             // lines of the table above the screen
  size_t first_column = 0;         // of the chosen fields; the name is always there
  bool follow = true;              // the selected row is kept in sight

  // The page of fields.
  std::string field;  // under the cursor
  size_t top_field = 0;
};

}  // namespace ballast::top
