#include "cli/run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ballast::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::IsSupersetOf;
using ::testing::Pair;

RunArguments web1() {
  RunArguments arguments;
  arguments.spec = {.name = "web1",
                    .uuid = "12345678-1234-1234-1234-123456789abc",
                    .configured_bytes = 256u << 20,
                    .allocation = {.min_bytes = 64u << 20}};
  return arguments;
}

TEST(Run, TellsTheAgentWhatItReads) {
  EXPECT_THAT(
      vm_environment(web1().spec, "/run/x"),
      ElementsAre(Pair("BALLAST_RUN_DIR", "/run/x"), Pair("BALLAST_SOCKET", "/run/x/agent.sock"),
                  Pair("BALLAST_VM_NAME", "web1"), Pair("BALLAST_VM_MEMORY", "268435456"),
                  Pair("BALLAST_VM_MIN", "67108864"), Pair("BALLAST_VM_LIMIT", ""),
                  Pair("BALLAST_VM_SHARES", "normal"), Pair("BALLAST_VM_BALLOON_MAX", ""),
                  Pair("BALLAST_VM_SALT", ""), Pair("BALLAST_VM_PSHARE", "1"),
                  Pair("BALLAST_VM_UUID", "12345678-1234-1234-1234-123456789abc")));
}

TEST(Run, TellsWithWhomItSharesPages) {
  VmSpec spec = web1().spec;
  spec.salt = "web";
  spec.share_enable = false;
  EXPECT_THAT(vm_environment(spec, "/run/x"),
              IsSupersetOf({Pair("BALLAST_VM_SALT", "web"), Pair("BALLAST_VM_PSHARE", "0")}));
}

TEST(Run, TellsTheWholeAllocation) {
  VmSpec spec = web1().spec;
  spec.allocation = {.min_bytes = 4096,
                     .limit_bytes = 128u << 20,
                     .shares = {ShareLevel::kCustom, 2000},
                     .balloon_max_bytes = 0};
  EXPECT_THAT(
      vm_environment(spec, "/run/x"),
      IsSupersetOf({Pair("BALLAST_VM_MIN", "4096"), Pair("BALLAST_VM_LIMIT", "134217728"),
                    Pair("BALLAST_VM_SHARES", "2000"), Pair("BALLAST_VM_BALLOON_MAX", "0")}));
}

TEST(Run, AddsMemoryOnlyWhenTheUserDidNot) {
  RunArguments arguments = web1();
  arguments.qemu = {"-nographic"};
  EXPECT_THAT(qemu_arguments(arguments), ElementsAre("-nographic", "-m", "256M"));
  arguments.qemu = {"-m", "256"};
  EXPECT_THAT(qemu_arguments(arguments), ElementsAre("-m", "256"));
}

TEST(Run, FailsWithoutADaemon) {
  const Error error = run(web1(), "/nonexistent/ballast");
  // Either is right: the launcher may not have been built yet.
  EXPECT_TRUE(error.message.find("no ballastd answers") != std::string::npos ||
              error.message.find("ballast-qemu is missing") != std::string::npos)
      << error.message;
}

}  // namespace
}  // namespace ballast::cli
