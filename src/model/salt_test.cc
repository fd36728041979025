#include "model/salt.h"

#include <gtest/gtest.h>

namespace ballast {
namespace {

constexpr const char* kUuid = "12345678-1234-1234-1234-123456789abc";

VmSpec vm(std::string salt, std::string uuid = kUuid, bool share_enable = true) {
  return {.name = "web1",
          .uuid = std::move(uuid),
          .share_enable = share_enable,
          .salt = std::move(salt)};
}

TEST(Salt, EveryModeMakesItsGroups) {
  struct Row {
    uint32_t force_salting;
    VmSpec spec;
    std::string group;
  };
  for (const auto& [force_salting, spec, group] :
       std::vector<Row>{{0, vm("web"), "all"},
                        {0, vm(""), "all"},
                        {0, vm("", ""), "all"},
                        {1, vm("web"), "salt:web"},
                        {1, vm(""), "salt:0"},
                        {1, vm("", ""), "salt:0"},
                        {1, vm("0"), "salt:0"},  // a missing salt is taken for 0
                        {2, vm("web"), "salt:web"},
                        {2, vm("0"), "salt:0"},
                        {2, vm("web", ""), "salt:web"},
                        {2, vm(""), "uuid:12345678-1234-1234-1234-123456789abc"},
                        {2, vm("", ""), "vm:r1"},
                        {2, vm("", "00000000-0000-0000-0000-000000000000"), "vm:r1"}}) {
    EXPECT_EQ(share_group(spec, force_salting, "r1"), group)
        << force_salting << " '" << spec.salt << "' '" << spec.uuid << "'";
  }
}

TEST(Salt, WhoIsNotToShareHasNoGroupInAnyMode) {
  for (const uint32_t force_salting : {0u, 1u, 2u}) {
    EXPECT_EQ(share_group(vm("web", kUuid, false), force_salting, "r1"), "");
    EXPECT_EQ(share_group(vm("", "", false), force_salting, "r1"), "");
  }
}

TEST(Salt, GroupsOfDifferentKindsNeverMeet) {
  // By a salt that reads like what another VM is told apart by, in any mode.
  const std::string strangers[] = {share_group(vm(""), 0, "r1"), share_group(vm(""), 2, "r1"),
                                   share_group(vm("", ""), 2, "r1")};
  for (const std::string salt : {"all", kUuid, "uuid:12345678-1234-1234-1234-123456789abc", "r1",
                                 "vm:r1", "salt:all", "vm", "uuid"}) {
    for (const uint32_t force_salting : {1u, 2u}) {
      const std::string group = share_group(vm(salt, "other"), force_salting, "r2");
      for (const std::string& stranger : strangers) EXPECT_NE(group, stranger) << salt;
    }
  }
  // Two without salt and UUID are strangers too.
  EXPECT_NE(share_group(vm("", ""), 2, "r1"), share_group(vm("", ""), 2, "r2"));
}

TEST(Salt, GroupsTellWhatTheyAre) {
  EXPECT_EQ(kind_of_group(""), GroupKind::kNone);
  EXPECT_EQ(kind_of_group(share_group(vm("web"), 0, "r1")), GroupKind::kAll);
  const std::string web = share_group(vm("web:1"), 2, "r1");
  EXPECT_EQ(kind_of_group(web), GroupKind::kSalt);
  EXPECT_EQ(name_in_group(web), "web:1");
  EXPECT_EQ(kind_of_group(share_group(vm(""), 2, "r1")), GroupKind::kUuid);
  EXPECT_EQ(name_in_group(share_group(vm(""), 2, "r1")), kUuid);
  EXPECT_EQ(kind_of_group(share_group(vm("", ""), 2, "r1")), GroupKind::kOneVm);
  EXPECT_EQ(name_in_group("all"), "");
}

TEST(Salt, SaltsThatCanBe) {
  for (const std::string& salt :
       {std::string("0"), std::string("web"), std::string("a\"b\\c'"), std::string("None"),
        std::string("q83v/A+=="), std::string(kSaltBytesMax, 's')}) {
    EXPECT_TRUE(check_salt(salt)) << salt;
  }
  for (const std::string& salt :
       {std::string(), std::string("two words"), std::string("tab\t"), std::string("line\n"),
        std::string("nul\0", 4), std::string("\x7f"), std::string("sch\xc3\xb6n"),
        std::string(kSaltBytesMax + 1, 's')}) {
    const Status good = check_salt(salt);
    ASSERT_FALSE(good) << salt;
    EXPECT_EQ(good.error().message,
              fmt::format("a salt of {} bytes is refused: 1 to 128 printable ASCII characters "
                          "without blanks are needed",
                          salt.size()));
  }
  EXPECT_EQ(check_salt("none").error().message,
            "the salt 'none' is refused: that word says that there is none");
}

}  // namespace
}  // namespace ballast
