#include "daemon/access.h"

#include <grp.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "daemon/config.h"

namespace ballast::daemon {
namespace {

TEST(Access, RootAndTheDaemonsUserMayChangeOthersLook) {
  EXPECT_EQ(access_of({0}), proto::Access::kChange);
  EXPECT_EQ(access_of({geteuid()}), proto::Access::kChange);
  EXPECT_EQ(access_of({geteuid() + 4711}), proto::Access::kLook);
  EXPECT_EQ(access_of({}), proto::Access::kLook) << "unknown";
}

TEST(Access, TheSocketBelongsToTheGroup) {
  const std::string path = testing::TempDir() + "access." + std::to_string(getpid());
  std::ofstream(path) << "";
  const auto refused = open_to_group(path, "no-such-group");
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("'no-such-group'"), std::string::npos);
  const struct group* group = getgrnam("daemon");  // Debian's base-passwd has it
  if (group == nullptr || geteuid() != 0) GTEST_SKIP() << "not root, or no group daemon";
  ASSERT_TRUE(open_to_group(path, "daemon"));
  struct stat info {};
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_gid, group->gr_gid);
  unlink(path.c_str());
}

TEST(Access, TheDefaultGroupNeedNotExist) {
  if (getgrnam(kDefaultGroup) != nullptr) GTEST_SKIP() << "it does here";
  EXPECT_TRUE(open_to_group("/nonexistent/socket", ""));
}

}  // namespace
}  // namespace ballast::daemon
