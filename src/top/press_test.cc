#include "top/press.h"

#include <gtest/gtest.h>

#include "cli/test_reports.h"
#include "top/keys.h"
#include "top/screen.h"

namespace ballast::top {
namespace {

constexpr Size kSize{80, 24};

View view_of(size_t vms) {
  View view;
  view.observation.emplace();
  for (size_t i = 0; i < vms; ++i) {
    view.observation->now.vms.push_back(cli::make_vm(fmt::format("vm{:03}", i), 256));
  }
  settle(view, kSize);
  return view;
}

Wish press_all(View& view, const std::vector<int>& keys) {
  Wish wish = Wish::kNothing;
  for (const int key : keys) {
    wish = press(view, key, kSize);
    settle(view, kSize);
  }
  return wish;
}

void type(View& view, const std::string& text) {
  for (const char c : text) press_all(view, {c});
}

TEST(Press, ArrowsChooseAVmAndKeepItInSight) {
  View view = view_of(200);
  EXPECT_EQ(view.selected, "vm000");
  press_all(view, {kUp});
  EXPECT_EQ(view.selected, "vm000");
  press_all(view, std::vector<int>(100, kDown));
  EXPECT_EQ(view.selected, "vm100");
  EXPECT_GT(view.top_line, 80u);
  EXPECT_LE(view.top_line, 100u);
  press_all(view, {kHome});
  EXPECT_EQ(view.top_line, 0u);
  press_all(view, {kEnd});
  EXPECT_EQ(view.selected, "(ballastd)");
  EXPECT_EQ(view.top_line, 201 - table_height(kSize));
}

TEST(Press, PagesScrollWithoutChoosing) {
  View view = view_of(200);
  press_all(view, {kPageDown});
  EXPECT_EQ(view.selected, "vm000");
  EXPECT_EQ(view.top_line, table_height(kSize) - 1);
  press_all(view, std::vector<int>(50, kPageDown));
  EXPECT_EQ(view.top_line, 201 - table_height(kSize));
  press_all(view, std::vector<int>(50, kPageUp));
  EXPECT_EQ(view.top_line, 0u);
  press_all(view, {kPageDown, kDown});
  EXPECT_EQ(view.selected, "vm001");
  EXPECT_EQ(view.top_line, 1u);
}

TEST(Press, TheChosenVmIsTheSameWhenRowsMove) {
  View view = view_of(3);
  view.observation->now.vms[2].swapped_bytes = uint64_t{1} << 40;
  press_all(view, {kDown});
  EXPECT_EQ(view.selected, "vm001");
  press_all(view, {'S'});
  EXPECT_EQ(view.selected, "vm001");
  EXPECT_EQ(view.settings.sort, "SWCUR");
  press_all(view, {kHome});
  EXPECT_EQ(view.selected, "vm002");
  view.observation->now.vms.pop_back();
  settle(view, kSize);
  EXPECT_EQ(view.selected, "vm000");
}

TEST(Press, SortKeysAndTheirReverse) {
  View view = view_of(3);
  for (const auto& [key, name] : std::vector<std::pair<int, std::string>>{{'M', "MEMSZ"},
                                                                          {'B', "MCTLSZ"},
                                                                          {'C', "CNSM"},
                                                                          {'A', "TCHD"},
                                                                          {'Z', "CACHEUSD"},
                                                                          {'N', "NAME"}}) {
    press_all(view, {key});
    EXPECT_EQ(view.settings.sort, name);
    EXPECT_NE(view.note.find(name), std::string::npos);
  }
  press_all(view, {'r'});
  EXPECT_TRUE(view.settings.reverse);
}

TEST(Press, ColumnsScrollButNotAway) {
  View view = view_of(1);
  press_all(view, {kLeft});
  EXPECT_EQ(view.first_column, 0u);
  press_all(view, std::vector<int>(100, kRight));
  EXPECT_EQ(view.first_column, view.settings.fields.size() - 1);
}

TEST(Press, WhyIsShownForTheChosenVm) {
  View view = view_of(2);
  EXPECT_EQ(press_all(view, {kDown, 'e'}), Wish::kReadEvents);
  EXPECT_TRUE(view.expanded.contains("vm001"));
  press_all(view, {kEnter});
  EXPECT_TRUE(view.expanded.empty());
  press_all(view, {kEnd, 'e'});  // not a VM
  EXPECT_TRUE(view.expanded.empty());
}

TEST(Press, ADelayIsAskedForAndChecked) {
  View view = view_of(1);
  press_all(view, {'s'});
  ASSERT_TRUE(view.prompt);
  type(view, "75q");
  press_all(view, {kBackspace, kBackspace, '.', '5', kEnter});
  EXPECT_FALSE(view.prompt);
  EXPECT_EQ(view.settings.delay_seconds, 7.5);
  for (const char* wrong : {"0.1", "x", "1e9", "nan", "inf", "1 2", "-1"}) {
    press_all(view, {'s'});
    type(view, wrong);
    press_all(view, {kEnter});
    EXPECT_EQ(view.settings.delay_seconds, 7.5) << wrong;
    EXPECT_NE(view.note.find("is no delay"), std::string::npos) << wrong;
  }
  press_all(view, {'s', '3', kEscape});
  EXPECT_FALSE(view.prompt);
  EXPECT_EQ(view.settings.delay_seconds, 7.5);
  press_all(view, {'s', kEnter});
  EXPECT_EQ(view.note, "");
}

TEST(Press, FieldsAreChosenAndOrdered) {
  View view = view_of(1);
  view.settings.fields = {"MEMSZ", "CNSM", "SWCUR"};
  press_all(view, {'f'});
  EXPECT_EQ(view.page, Page::kFields);
  EXPECT_EQ(view.field, "MEMSZ");
  press_all(view, {kRight});
  EXPECT_EQ(view.settings.fields, (std::vector<std::string>{"CNSM", "MEMSZ", "SWCUR"}));
  press_all(view, {kRight, kRight, kLeft, ' '});
  EXPECT_EQ(view.settings.fields, (std::vector<std::string>{"CNSM", "SWCUR"}));
  EXPECT_EQ(view.field, "MEMSZ");
  press_all(view, {kLeft});
  EXPECT_NE(view.note, "");
  press_all(view, {' '});
  EXPECT_EQ(view.settings.fields, (std::vector<std::string>{"CNSM", "SWCUR", "MEMSZ"}));
  press_all(view, {'s', 'r', kEnd});
  EXPECT_EQ(view.settings.sort, "MEMSZ");
  EXPECT_TRUE(view.settings.reverse);
  EXPECT_EQ(view.field, "STATE");
  press_all(view, {kEscape});
  EXPECT_EQ(view.page, Page::kVms);
}

TEST(Press, AllColumnsMayBeTakenAway) {
  View view = view_of(1);
  press_all(view, {'f'});
  for (int i = 0; i < 100 && !view.settings.fields.empty(); ++i) press_all(view, {kHome, ' '});
  EXPECT_TRUE(view.settings.fields.empty());
  press_all(view, {'q', kRight});
  EXPECT_NE(render(view, kSize, false).find("vm000"), std::string::npos);
}

TEST(Press, TheOtherKeys) {
  View view = view_of(1);
  EXPECT_EQ(press_all(view, {'q'}), Wish::kQuit);
  EXPECT_EQ(press_all(view, {' '}), Wish::kUpdate);
  EXPECT_EQ(press_all(view, {'W'}), Wish::kSave);
  EXPECT_EQ(press_all(view, {kRedraw}), Wish::kRedraw);
  press_all(view, {'V'});
  EXPECT_TRUE(view.settings.only_vms);
  press_all(view, {'h'});
  EXPECT_EQ(view.page, Page::kHelp);
  EXPECT_EQ(press_all(view, {'q'}), Wish::kNothing);  // any key goes back
  EXPECT_EQ(view.page, Page::kVms);
  EXPECT_EQ(press_all(view, {kUnknown, 'x', 0, kEscape}), Wish::kNothing);
}

TEST(Press, NothingBreaksBeforeTheFirstReport) {
  View view;
  settle(view, kSize);
  press_all(view, {kDown, kUp, kPageDown, 'e', 'S', kEnd, kRight, 'f', kDown, ' ', 'q', 'V', 'r'});
  EXPECT_EQ(press_all(view, {'q'}), Wish::kQuit);
}

}  // namespace
}  // namespace ballast::top
