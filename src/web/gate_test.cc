#include "web/gate.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace ballast::web {
namespace {

using testing::HasSubstr;

class Token : public testing::Test {
 protected:
  Token() : directory_(testing::TempDir() + "ballast-token." + std::to_string(getpid())) {
    std::filesystem::remove_all(directory_);
  }
  ~Token() override { std::filesystem::remove_all(directory_); }

  const std::string directory_;
  const std::string path_ = directory_ + "/http-token";
};

TEST_F(Token, IsMadeOnceForItsOwnerAlone) {
  const auto first = load_or_make_token(path_);
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_EQ(first->size(), 64u);
  struct stat info {};
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  const auto second = load_or_make_token(path_);
  ASSERT_TRUE(second);
  EXPECT_EQ(*first, *second);
  std::filesystem::remove(path_);
  const auto third = load_or_make_token(path_);
  ASSERT_TRUE(third);
  EXPECT_NE(*first, *third);
}

TEST_F(Token, IsNotBelievedWhenOthersCouldReadItOrItMakesNoSense) {
  ASSERT_TRUE(load_or_make_token(path_));
  chmod(path_.c_str(), 0644);
  auto loaded = load_or_make_token(path_);
  ASSERT_FALSE(loaded);
  EXPECT_THAT(loaded.error().message, HasSubstr("can be read by others"));
  chmod(path_.c_str(), 0600);
  for (const std::string& text : {std::string(), std::string("secret\n"), std::string(65, 'a')}) {
    std::ofstream(path_) << text;
    EXPECT_FALSE(load_or_make_token(path_)) << text;
  }
  std::filesystem::remove(path_);
  std::filesystem::create_symlink("/etc/hostname", path_);
  EXPECT_FALSE(load_or_make_token(path_));
  std::filesystem::remove(path_);
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);  // does not wait for a writer
  EXPECT_FALSE(load_or_make_token(path_));
}

TEST_F(Token, ADirectoryThatCannotBeIsSaid) {
  std::ofstream(directory_) << "a file";
  const auto loaded = load_or_make_token(path_);
  ASSERT_FALSE(loaded);
  EXPECT_THAT(loaded.error().message, HasSubstr(path_));
}

}  // namespace
}  // namespace ballast::web
