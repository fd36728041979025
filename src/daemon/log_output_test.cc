#include "daemon/log_output.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

namespace ballast::daemon {
namespace {

using ::testing::UnorderedElementsAre;

LogLine line_of(std::string_view vm) {
  return {std::chrono::system_clock::time_point(std::chrono::seconds(1'700'000'000)),
          machine::Severity::kWarning, vm, "swap.notice", "no direct I/O"};
}

TEST(LogOutput, AsText) {
  EXPECT_EQ(log_text(line_of("")), "2023-11-14 22:13:20 warning no direct I/O");
  EXPECT_EQ(log_text(line_of("web1")), "2023-11-14 22:13:20 warning web1: no direct I/O");
}

TEST(LogOutput, AsFieldsOfTheJournal) {
  EXPECT_THAT(journal_fields(line_of("")),
              UnorderedElementsAre("MESSAGE=no direct I/O", "PRIORITY=4", "KIND=swap.notice",
                                   "SYSLOG_IDENTIFIER=ballastd"));
  EXPECT_THAT(journal_fields(line_of("web1")),
              UnorderedElementsAre("MESSAGE=web1: no direct I/O", "PRIORITY=4", "KIND=swap.notice",
                                   "SYSLOG_IDENTIFIER=ballastd", "VM=web1"));
}

TEST(LogOutput, TheJournalsStreamIsKnownByDeviceAndInode) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  struct stat info {};
  ASSERT_EQ(fstat(ends[1], &info), 0);
  const std::string name = fmt::format("{}:{}", info.st_dev, info.st_ino);
  EXPECT_TRUE(is_journal_stream(ends[1], name.c_str()));
  EXPECT_FALSE(is_journal_stream(ends[1], (name + "0").c_str())) << "inherited, and redirected";
  EXPECT_FALSE(is_journal_stream(ends[1], "nonsense"));
  EXPECT_FALSE(is_journal_stream(ends[1], nullptr));
  close(ends[0]);
  close(ends[1]);
  EXPECT_FALSE(is_journal_stream(ends[1], name.c_str())) << "closed";
}

}  // namespace
}  // namespace ballast::daemon
