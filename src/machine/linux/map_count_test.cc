#include "machine/linux/map_count.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <fstream>

namespace ballast::linux_machine {
namespace {

class MapCountTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(::mkdtemp(directory_), nullptr); }
  void TearDown() override {
    ::unlink(path().c_str());
    ::rmdir(directory_);
  }
  std::string path() const { return std::string(directory_) + "/max_map_count"; }
  void write(const std::string& text) const { std::ofstream(path()) << text; }
  std::string content() const {
    std::string text;
    std::getline(std::ifstream(path()), text);
    return text;
  }

  char directory_[32] = "/tmp/ballast-maps-XXXXXX";
};

TEST_F(MapCountTest, RaisesAndNeverLowers) {
  write("65530\n");
  auto raised = raise_map_count(1'000'000, path());
  ASSERT_TRUE(raised) << raised.error().message;
  EXPECT_EQ(raised->now, 1'000'000u);
  EXPECT_FALSE(raised->refused);
  EXPECT_EQ(content(), "1000000");
  EXPECT_EQ(raise_map_count(500, path())->now, 1'000'000u);
  EXPECT_EQ(raise_map_count(uint64_t{1} << 40, path())->now, 2147483647u);
}

TEST_F(MapCountTest, SaysWhyNot) {
  EXPECT_FALSE(raise_map_count(1, path())) << "no such file";
  write("many");
  EXPECT_FALSE(raise_map_count(1, path()));
  // The kernel's own file, which takes whatever it was.
  const auto kernel = raise_map_count(1);
  ASSERT_TRUE(kernel) << kernel.error().message;
  EXPECT_GT(kernel->now, 1u);
  EXPECT_FALSE(kernel->refused);
  // A number of the kernel's that nobody may write.
  const auto refused = raise_map_count(1'000'000, "/proc/sys/kernel/random/poolsize");
  ASSERT_TRUE(refused) << refused.error().message;
  EXPECT_EQ(refused->now, 256u);
  EXPECT_TRUE(refused->refused);
  EXPECT_NE(refused->why.find("ermission"), std::string::npos);
}

}  // namespace
}  // namespace ballast::linux_machine
