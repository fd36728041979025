#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "doctor/doctor.h"
#include "doctor/run_program.h"

namespace ballast::doctor {
namespace {

using ::testing::HasSubstr;

TEST(RunProgram, TakesOutputAndStatus) {
  const Ran good = run_program({"sh", "-c", "echo out; echo err >&2; exit 3"});
  EXPECT_TRUE(good.started);
  EXPECT_EQ(good.status, 3);
  EXPECT_EQ(good.output, "out\nerr\n");
  EXPECT_FALSE(run_program({"/nonexistent/program"}).started);
  EXPECT_EQ(run_program({"sh", "-c", "kill -9 $$"}).status, -1);
}

TEST(RunProgram, WhatTalksTooMuchIsCut) {
  const Ran ran = run_program({"sh", "-c", "head -c 3000000 /dev/zero"});
  EXPECT_EQ(ran.status, 0);
  EXPECT_EQ(ran.output.size(), size_t{1} << 20);
}

TEST(Probe, ThisHostIsLookedAtWithoutAnError) {
  const KernelFacts kernel = probe_kernel();
  EXPECT_GT(kernel.major, 2);
  const MemoryFacts memory = probe_memory();
  EXPECT_GT(memory.bytes, uint64_t{1} << 20);
  EXPECT_GT(memory.mappings_max, 0u);
}

TEST(Probe, ASwapDirectoryThatIsNotThereYet) {
  const std::string path = testing::TempDir() + "no/such/directory";
  const SwapDirFacts swap = probe_swap_dir(path);
  EXPECT_EQ(swap.error, "");
  EXPECT_EQ(std::filesystem::path(swap.looked_at + "/"), std::filesystem::path(testing::TempDir()));
  EXPECT_GT(swap.free_bytes, 0u);
  EXPECT_THAT(probe_swap_dir("/dev/null").error, HasSubstr("ot a directory"));
  EXPECT_TRUE(probe_swap_dir("/dev/shm").in_memory);
}

class Cgroups : public testing::Test {
 protected:
  ~Cgroups() override { std::filesystem::remove_all(root_); }
  void write(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  const std::string root_ = testing::TempDir() + "cgroups." + std::to_string(getpid());
};

TEST_F(Cgroups, TheLeastLimitUpTheTreeCounts) {
  write("/a/b/memory.max", "max\n");
  write("/a/b/memory.high", "2000\n");
  write("/a/memory.max", "1000\n");
  const CgroupLimit limit = least_memory_limit("0::/a/b\n", root_);
  EXPECT_EQ(limit.limit_bytes, 1000u);
  EXPECT_EQ(limit.path, root_ + "/a/memory.max");
  EXPECT_EQ(least_memory_limit("0::/other\n", root_).limit_bytes, 0u);
  EXPECT_EQ(least_memory_limit("", root_).limit_bytes, 0u);
  EXPECT_EQ(least_memory_limit("0::/\n", root_).limit_bytes, 0u);
}

TEST_F(Cgroups, VersionOneToo) {
  write("/memory/x/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(least_memory_limit("5:memory:/x\n", root_).limit_bytes, 0u) << "none";
  write("/memory/x/memory.limit_in_bytes", "4096\n");
  EXPECT_EQ(least_memory_limit("4:cpu:/y\n5:memory:/x\n", root_).limit_bytes, 4096u);
}

}  // namespace
}  // namespace ballast::doctor
