// docs/page-states.md and kMayFollow say the same.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "engine/pmap/page_state.h"

namespace ballast::engine {
namespace {

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(' ');
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

std::vector<std::string> cells(const std::string& line) {
  std::vector<std::string> result;
  std::istringstream stream(line);
  std::string cell;
  std::getline(stream, cell, '|');  // before the first bar
  while (std::getline(stream, cell, '|')) result.push_back(trimmed(cell));
  return result;
}

class PageStatesDoc : public testing::Test {
 protected:
  void SetUp() override {
    std::ifstream file(BALLAST_SOURCE_DIR "/docs/page-states.md");
    ASSERT_TRUE(file) << "docs/page-states.md cannot be read";
    for (std::string line; std::getline(file, line);) lines_.push_back(line);
  }
  std::vector<std::string> lines_;
};

TEST_F(PageStatesDoc, TheTableIsTheCodes) {
  std::vector<std::string> columns;
  std::map<std::string, std::vector<std::string>> rows;
  for (const std::string& line : lines_) {
    if (line.rfind("| from", 0) == 0) {
      columns = cells(line);
    } else if (!columns.empty() && line.rfind("| ", 0) == 0) {
      const auto row = cells(line);
      ASSERT_EQ(row.size(), columns.size()) << line;
      ASSERT_TRUE(rows.emplace(row[0], row).second) << line;
    }
  }
  ASSERT_EQ(columns.size(), kPageStates + 1);
  ASSERT_EQ(rows.size(), kPageStates);
  for (size_t to = 0; to < kPageStates; ++to) {
    EXPECT_EQ(columns[to + 1], name_of(static_cast<PageState>(to)));
  }
  for (size_t from = 0; from < kPageStates; ++from) {
    const auto left = static_cast<PageState>(from);
    const auto row = rows.find(std::string(name_of(left)));
    ASSERT_NE(row, rows.end()) << name_of(left);
    for (size_t to = 0; to < kPageStates; ++to) {
      const auto entered = static_cast<PageState>(to);
      const char* allowed = may_follow(left, entered) ? "yes" : "–";
      EXPECT_EQ(row->second[to + 1], from == to ? "same" : allowed)
          << name_of(left) << " → " << name_of(entered);
    }
  }
}

TEST_F(PageStatesDoc, EveryStateHasItsStory) {
  for (size_t state = 0; state < kPageStates; ++state) {
    const std::string heading = "### " + std::string(name_of(static_cast<PageState>(state)));
    EXPECT_EQ(std::count(lines_.begin(), lines_.end(), heading), 1) << heading;
  }
}

}  // namespace
}  // namespace ballast::engine
