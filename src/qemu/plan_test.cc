// Command line in, command line out.
#include "qemu/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace ballast::qemu {
namespace {

using testing::HasSubstr;
using Words = std::vector<std::string>;

constexpr const char* kBalloon =
    "virtio-balloon-pci,id=ballast-balloon,free-page-reporting=on,deflate-on-oom=on";

Host test_host(bool kvm = false) {
  Host host;
  host.files.file_system = [](const std::string& path) {
    if (path.starts_with("/dev/shm")) return FileSystem::kTmpfs;
    return path.starts_with("/hugepages") ? FileSystem::kHugetlbfs : FileSystem::kOther;
  };
  host.files.read = [](const std::string&) -> Result<std::string> { return Error{"none"}; };
  host.probe_kvm = [kvm] { return KvmProbe{kvm, kvm ? "" : "no KVM"}; };
  host.new_uuid = [] { return "u-0"; };
  host.pid = 42;
  return host;
}

Plan plan(const Words& words, const Environment& environment = {}, bool kvm = false) {
  auto result = make_plan(words, environment, test_host(kvm));
  EXPECT_TRUE(result.has_value()) << (result ? "" : result.error().message);
  return result ? result.value() : Plan{};
}

std::string refusal(const Words& words, const Environment& environment = {}) {
  const auto result = make_plan(words, environment, test_host());
  EXPECT_FALSE(result.has_value());
  return result ? "" : result.error().message;
}

std::map<std::string, std::string> variables(const Plan& plan) {
  return {plan.environment.begin(), plan.environment.end()};
}

// The value behind the last `flag`.
std::string value_of(const Plan& plan, const std::string& flag) {
  std::string value = "(absent)";
  for (size_t i = 0; i + 1 < plan.arguments.size(); ++i) {
    if (plan.arguments[i] == flag) value = plan.arguments[i + 1];
  }
  return value;
}

TEST(Plan, SmallestCommandLine) {
  const Plan result = plan({"-m", "256"});
  EXPECT_TRUE(result.managed);
  EXPECT_EQ(result.arguments,
            (Words{"-m", "256", "-name", "vm-42", "-uuid", "u-0", "-machine",
                   "memory-backend=ballast-ram", "-object",
                   "memory-backend-memfd,id=ballast-ram,size=268435456,share=on", "-accel",
                   "tcg,thread=multi,tb-size=32", "-device", kBalloon, "-qmp",
                   "unix:/run/ballast/qmp/vm-42.42.sock,server=on,wait=off"}));
  EXPECT_EQ(result.qmp_directory, "/run/ballast/qmp");
  EXPECT_EQ(variables(result), (std::map<std::string, std::string>{
                                   {"BALLAST_SOCKET", "/run/ballast/agent.sock"},
                                   {"BALLAST_VM_NAME", "vm-42"},
                                   {"BALLAST_VM_MEMORY", "268435456"},
                                   {"BALLAST_VM_MIN", "0"},
                                   {"BALLAST_VM_LIMIT", ""},
                                   {"BALLAST_VM_SHARES", "normal"},
                                   {"BALLAST_VM_BALLOON_MAX", ""},
                                   {"BALLAST_VM_SALT", ""},
                                   {"BALLAST_VM_PSHARE", "1"},
                                   {"BALLAST_VM_UUID", ""},
                                   {"BALLAST_QMP", "/run/ballast/qmp/vm-42.42.sock"}}));
}

TEST(Plan, UnderstandsEveryFormOfMemory) {
  const std::map<std::string, std::string> forms = {
      {"256", "268435456"},   {"256M", "268435456"},
      {"1.5G", "1610612736"}, {"size=1G,slots=4,maxmem=8G", "1073741824"},
      {"2g", "2147483648"},   {"size=512", "536870912"},
      {"0", "134217728"},     {"1000001B", "1007616"}};
  for (const auto& [text, bytes] : forms) {
    const Plan result = plan({"-m", text});
    EXPECT_EQ(variables(result)["BALLAST_VM_MEMORY"], bytes) << text;
    EXPECT_EQ(value_of(result, "-m"), text);
    EXPECT_THAT(value_of(result, "-object"), HasSubstr("size=" + bytes + ","));
  }
  EXPECT_EQ(value_of(plan({}), "-m"), "128M");
  EXPECT_EQ(variables(plan({"-m", "1G", "-m", "slots=2"}))["BALLAST_VM_MEMORY"], "1073741824");
  EXPECT_THAT(refusal({"-m", "lots"}), HasSubstr("-m: 'lots' is not a size"));
}

TEST(Plan, BallastRunsMemoryDecides) {
  Environment environment;
  environment.memory_bytes = "536870912";
  environment.min_bytes = "67108864";
  environment.name = "web1";
  environment.socket = "/tmp/r/agent.sock";
  const Plan result = plan({"-nographic"}, environment);
  EXPECT_EQ(value_of(result, "-m"), "512M");
  EXPECT_EQ(value_of(result, "-name"), "web1");
  EXPECT_EQ(variables(result)["BALLAST_VM_MIN"], "67108864");
  EXPECT_EQ(variables(result)["BALLAST_SOCKET"], "/tmp/r/agent.sock");
  EXPECT_EQ(variables(result)["BALLAST_QMP"], "/tmp/r/qmp/web1.42.sock");
  EXPECT_EQ(value_of(plan({"-m", "512M"}, environment), "-m"), "512M");
  EXPECT_EQ(value_of(plan({"-m", "slots=2,maxmem=2G"}, environment), "-m"),
            "slots=2,maxmem=2G,size=512M");
  EXPECT_EQ(refusal({"-m", "256M"}, environment),
            "-m 256M: contradicts --memory 536870912 (512 MB); leave -m out");
  environment.min_bytes = "536870913";
  EXPECT_THAT(refusal({}, environment), HasSubstr("VM web1: a min of 536870913 bytes"));
  environment.memory_bytes = "12x";
  EXPECT_THAT(refusal({}, environment), HasSubstr("BALLAST_VM_MEMORY='12x'"));
}

TEST(Plan, PassesTheAllocationOn) {
  Environment environment;
  environment.limit_bytes = "134217728";
  environment.shares = "high";
  environment.balloon_max_bytes = "0";
  auto passed = variables(plan({"-m", "256"}, environment));
  EXPECT_EQ(passed["BALLAST_VM_LIMIT"], "134217728");
  EXPECT_EQ(passed["BALLAST_VM_SHARES"], "high");
  EXPECT_EQ(passed["BALLAST_VM_BALLOON_MAX"], "0");
  environment.shares = "2000";
  EXPECT_EQ(variables(plan({"-m", "256"}, environment))["BALLAST_VM_SHARES"], "2000");
}

TEST(Plan, PassesSaltAndSharingOn) {
  Environment environment;
  environment.salt = "web";
  environment.pshare = "0";
  auto passed = variables(plan({"-m", "256"}, environment));
  EXPECT_EQ(passed["BALLAST_VM_SALT"], "web");
  EXPECT_EQ(passed["BALLAST_VM_PSHARE"], "0");
  environment.pshare = "1";
  EXPECT_EQ(variables(plan({"-m", "256"}, environment))["BALLAST_VM_PSHARE"], "1");
  environment.pshare = "on";
  EXPECT_EQ(refusal({}, environment), "BALLAST_VM_PSHARE='on' is refused: 0 or 1 is needed");
  environment.pshare = "";
  environment.salt = "two words";
  EXPECT_EQ(refusal({}, environment),
            "BALLAST_VM_SALT: a salt of 9 bytes is refused: 1 to 128 printable ASCII characters "
            "without blanks are needed");
  environment.salt = "none";
  EXPECT_THAT(refusal({}, environment), HasSubstr("BALLAST_VM_SALT: the salt 'none' is refused"));
}

TEST(Plan, RefusesAllocationsThatCannotBe) {
  const auto refusal_of = [](std::string Environment::*member, const char* text) {
    Environment environment;
    environment.min_bytes = "67108864";
    environment.*member = text;
    return refusal({"-m", "256"}, environment);
  };
  EXPECT_EQ(refusal_of(&Environment::min_bytes, "536870912"),
            "VM vm-42: a min of 512 MB exceeds its memory of 256 MB");
  EXPECT_EQ(refusal_of(&Environment::min_bytes, "64M"),
            "BALLAST_VM_MIN='64M' is not a number of bytes");
  EXPECT_EQ(refusal_of(&Environment::limit_bytes, "33554432"),
            "VM vm-42: a min of 64 MB exceeds its limit of 32 MB");
  EXPECT_EQ(refusal_of(&Environment::limit_bytes, "-1"),
            "BALLAST_VM_LIMIT='-1' is not a number of bytes");
  EXPECT_EQ(refusal_of(&Environment::balloon_max_bytes, "536870912"),
            "VM vm-42: a balloon of up to 512 MB exceeds its memory of 256 MB");
  EXPECT_EQ(refusal_of(&Environment::balloon_max_bytes, "half"),
            "BALLAST_VM_BALLOON_MAX='half' is not a number of bytes");
  EXPECT_THAT(refusal_of(&Environment::shares, "lots"), HasSubstr("shares 'lots' are refused"));
  EXPECT_THAT(refusal_of(&Environment::shares, "0"), HasSubstr("shares '0' are refused"));
}

TEST(Plan, MergesIntoTheUsersMachine) {
  EXPECT_EQ(value_of(plan({"-M", "q35,smm=off"}), "-M"), "q35,smm=off,memory-backend=ballast-ram");
  const Plan twice = plan({"-machine", "pc", "-machine", "usb=off"});
  EXPECT_EQ(value_of(twice, "-machine"), "usb=off,memory-backend=ballast-ram");
}

TEST(Plan, KeepsSharedBackendsAndConvertsAnonymousOnes) {
  const Words own = {"-machine", "pc,memory-backend=r", "-object",
                     "memory-backend-memfd,id=r,size=128M,share=on"};
  EXPECT_EQ(value_of(plan(own), "-object"), own[3]);
  const Words file = {"-machine", "pc,memory-backend=r", "-object",
                      "memory-backend-file,id=r,size=128M,share=on,mem-path=/dev/shm/x"};
  EXPECT_EQ(value_of(plan(file), "-object"), file[3]);
  EXPECT_EQ(value_of(plan({"-machine", "pc,memory-backend=r", "-object",
                           "memory-backend-ram,id=r,size=128M"}),
                     "-object"),
            "memory-backend-memfd,id=r,size=128M,share=on");
  EXPECT_EQ(value_of(plan({"-machine", "pc-q35-7.2,memory-backend=pc.ram", "-object",
                           R"({"qom-type":"memory-backend-ram","id":"pc.ram","size":134217728})"}),
                     "-object"),
            R"({"qom-type":"memory-backend-memfd","id":"pc.ram","size":134217728,"share":true})");
  const Plan numa = plan({"-m", "256M", "-object", "memory-backend-ram,id=a,size=128M", "-object",
                          "memory-backend-ram,id=b,size=128M", "-numa", "node,memdev=a", "-numa",
                          "node,memdev=b"});
  EXPECT_EQ(value_of(numa, "-object"), "memory-backend-memfd,id=b,size=128M,share=on");
  EXPECT_EQ(value_of(numa, "-machine"), "(absent)");
}

TEST(Plan, AcceleratorIsTheUsersOrTheBestOne) {
  EXPECT_EQ(value_of(plan({}, {}, true), "-accel"), "kvm");
  EXPECT_EQ(value_of(plan({}, {}, false), "-accel"), "tcg,thread=multi,tb-size=32");
  EXPECT_EQ(value_of(plan({"-m", "4G"}), "-accel"), "tcg,thread=multi,tb-size=128");
  EXPECT_EQ(value_of(plan({"-icount", "auto"}), "-accel"), "tcg");
  EXPECT_EQ(value_of(plan({"-accel", "tcg"}, {}, true), "-accel"), "tcg");
  EXPECT_EQ(value_of(plan({"-enable-kvm"}), "-accel"), "(absent)");
  EXPECT_EQ(value_of(plan({"-machine", "pc,accel=kvm:tcg"}), "-accel"), "(absent)");
}

TEST(Plan, BalloonUnlessThereIsOneOrNoBus) {
  EXPECT_EQ(value_of(plan({"-device", "virtio-balloon-pci,id=b"}), "-device"),
            "virtio-balloon-pci,id=b");
  const std::string json = R"({"driver":"virtio-balloon-pci","id":"b","bus":"pci.5"})";
  EXPECT_EQ(value_of(plan({"-device", json}), "-device"), json);
  EXPECT_EQ(value_of(plan({"-M", "isapc"}), "-device"), "(absent)");
  EXPECT_EQ(value_of(plan({"-M", "microvm"}), "-device"),
            "virtio-balloon-device,id=ballast-balloon,free-page-reporting=on,deflate-on-oom=on");
}

// QEMU serves one client per socket: the daemon on the user's would lock the user out.
TEST(Plan, AddsAQmpSocketBesideTheUsers) {
  for (const Words& own :
       {Words{}, Words{"-qmp", "unix:/tmp/q,server=on,wait=off"},
        Words{"-qmp", "unix:q.sock,server,nowait"}, Words{"-qmp-pretty", "stdio"},
        Words{"-chardev", "socket,id=c,path=/tmp/m,server=on,wait=off", "-mon",
              "chardev=c,mode=control"},
        Words{"-chardev", "socket,id=c,fd=22,server=on,wait=off", "-mon", "c,mode=control"}}) {
    const Plan result = plan(own);
    EXPECT_EQ(Words(result.arguments.begin(),
                    result.arguments.begin() + static_cast<std::ptrdiff_t>(own.size())),
              own);
    EXPECT_EQ(value_of(result, "-qmp"), "unix:/run/ballast/qmp/vm-42.42.sock,server=on,wait=off");
    EXPECT_EQ(variables(result)["BALLAST_QMP"], "/run/ballast/qmp/vm-42.42.sock");
    EXPECT_EQ(result.qmp_directory, "/run/ballast/qmp");
  }
}

TEST(Plan, IdentityComesFromTheUsersOptions) {
  const Plan result = plan({"-name", "guest=My VM,debug-threads=on", "-uuid", "abc"});
  EXPECT_EQ(variables(result)["BALLAST_VM_NAME"], "My-VM");
  EXPECT_EQ(variables(result)["BALLAST_VM_UUID"], "abc");
  EXPECT_EQ(value_of(result, "-name"), "guest=My VM,debug-threads=on");
  Environment given;
  given.uuid = "def";
  EXPECT_EQ(value_of(plan({}, given), "-uuid"), "def");
  EXPECT_EQ(variables(plan({}, given))["BALLAST_VM_UUID"], "def");
  EXPECT_EQ(value_of(plan({}), "-uuid"), "u-0") << "made up for the guest";
  EXPECT_EQ(variables(plan({}))["BALLAST_VM_UUID"], "");
  Environment environment;
  environment.name = "no/slash";
  EXPECT_THAT(refusal({}, environment), HasSubstr("'no/slash' is no name"));
  environment = {};
  environment.run_dir = "/" + std::string(100, 'r');
  EXPECT_THAT(refusal({}, environment), HasSubstr("use a shorter run directory"));
  environment.run_dir = "/run/a,b";
  EXPECT_THAT(value_of(plan({}, environment), "-qmp"), HasSubstr("unix:/run/a,,b/qmp/"));
}

TEST(Plan, ProbesPassUntouched) {
  for (const Words& probe :
       {Words{"-version"}, Words{"--version"}, Words{"-help"}, Words{"-h"},
        Words{"-machine", "none"}, Words{"-M", "help"}, Words{"-device", "help"},
        Words{"-device", "virtio-blk-pci,help"}, Words{"-cpu", "?"},
        Words{"-S", "-no-user-config", "-nodefaults", "-nographic", "-machine",
              "none,accel=kvm:tcg", "-qmp", "unix:/x/capabilities.monitor.sock,server=on,wait=off",
              "-pidfile", "/x/p", "-daemonize"}}) {
    const Plan result = plan(probe);
    EXPECT_FALSE(result.managed) << probe[0];
    EXPECT_EQ(result.arguments, probe);
    EXPECT_TRUE(result.environment.empty());
  }
  EXPECT_TRUE(plan({"-append", "help"}).managed);
}

// ---- started by libvirt

const Words kLibvirt = {
    "-name",   "guest=web 1,debug-threads=on",
    "-object", R"({"qom-type":"secret","id":"masterKey0","format":"raw","file":"/x"})",
    "-m",      "256",
    "-uuid",   "12345678-1234-1234-1234-123456789abc"};

Result<Plan> plan_of_libvirt(const std::string& text, const Environment& environment = {}) {
  Host host = test_host();
  host.files.read = [text](const std::string& path) -> Result<std::string> {
    EXPECT_EQ(path, "/run/ballast/libvirt/12345678-1234-1234-1234-123456789abc");
    return text;
  };
  return make_plan(kLibvirt, environment, host);
}

TEST(PlanLibvirt, TakesWhatTheHookLeft) {
  const auto plan =
      plan_of_libvirt("BALLAST_VM_MIN=1048576\nBALLAST_VM_SHARES=high\nBALLAST_VM_SALT=web\n");
  ASSERT_TRUE(plan) << plan.error().message;
  auto found = variables(*plan);
  EXPECT_EQ(found["BALLAST_VM_NAME"], "web-1");
  EXPECT_EQ(found["BALLAST_VM_UUID"], "12345678-1234-1234-1234-123456789abc");
  EXPECT_EQ(found["BALLAST_VM_MIN"], "1048576");
  EXPECT_EQ(found["BALLAST_VM_SHARES"], "high");
  EXPECT_EQ(found["BALLAST_VM_SALT"], "web");
  EXPECT_EQ(plan->note, "");
}

TEST(PlanLibvirt, TheEnvironmentWins) {
  const auto plan = plan_of_libvirt("BALLAST_VM_MIN=1048576\n", {.min_bytes = "2097152"});
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(variables(*plan)["BALLAST_VM_MIN"], "2097152");
}

TEST(PlanLibvirt, WithoutTheHookItSaysSoAndGoesOn) {
  const auto plan = make_plan(kLibvirt, {}, test_host());
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_TRUE(plan->managed);
  EXPECT_THAT(plan->note, HasSubstr("install ballast-libvirt-hook"));
}

TEST(PlanLibvirt, WhatIsNoParameterIsRefused) {
  for (const char* text : {"LD_PRELOAD=/x\n", "nonsense\n", "BALLAST_VM_MIN=lots\n"}) {
    EXPECT_FALSE(plan_of_libvirt(text)) << text;
  }
}

}  // namespace
}  // namespace ballast::qemu
