// Hostile hand-off texts, each with the words of its refusal.
#include "machine/linux/hand_off.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proto/agent_wire.h"

namespace ballast::linux_machine {
namespace {

using testing::HasSubstr;

// Member = text to put in its place; everything else is right.
struct Change {
  std::string from;
  std::string to;
};

const std::string kIdentity =
    R"("version":1,"name":"web1","uuid":"0a-1b","memory_bytes":16384,"min_bytes":4096,"qmp":"/run/q","kept":[])";
const std::string kRegion =
    R"({"base_host_virt_addr":1048576,"size":16384,"offset":0,"page_size":4096,"page_size_kib":4096,"ballast":{"ram_fd":1,)";
const std::string kGood = "[" + kRegion + kIdentity + "}}]";

std::string with(const Change& change) {
  std::string text = kGood;
  const size_t at = text.find(change.from);
  EXPECT_NE(at, std::string::npos) << change.from;
  return text.replace(at, change.from.size(), change.to);
}

std::string second_region(const std::string& address, const std::string& offset, int ram_fd) {
  return R"(,{"base_host_virt_addr":)" + address + R"(,"size":4096,"offset":)" + offset +
         R"(,"page_size":4096,"ballast":{"ram_fd":)" + std::to_string(ram_fd) + "}}]";
}

std::string two_regions(const std::string& second) {
  std::string text = with({"\"memory_bytes\":16384", "\"memory_bytes\":20480"});
  text.pop_back();
  return text + second;
}

std::string message_for(const std::string& text, size_t descriptors = 3) {
  const auto result = parse_hand_off(text, descriptors);
  return result ? "accepted" : result.error().message;
}

TEST(HandOff, AcceptsAGoodOne) {
  const auto result = parse_hand_off(kGood, 3);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->spec.name, "web1");
  EXPECT_EQ(result->spec.uuid, "0a-1b");
  EXPECT_EQ(result->spec.configured_bytes, 16384u);
  EXPECT_EQ(result->spec.allocation.min_bytes, 4096u);
  EXPECT_EQ(result->qmp_path, "/run/q");
  ASSERT_EQ(result->regions.size(), 1u);
  EXPECT_EQ(result->regions[0].address, 1048576u);
  EXPECT_EQ(result->ram_files, 1u);
  EXPECT_EQ(result->discards_at, 2u);
  EXPECT_FALSE(result->has_kept);
  EXPECT_TRUE(result->is_complete());
}

TEST(HandOff, AllocationMembersMayBeMissing) {
  EXPECT_EQ(parse_hand_off(kGood, 3)->spec.allocation, (Allocation{.min_bytes = 4096}));
  const auto result = parse_hand_off(
      with({"\"min_bytes\":4096", R"("min_bytes":4096,"limit_bytes":1048576,"shares":"2000",
                                     "balloon_max_bytes":8192)"}),
      3);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->spec.allocation, (Allocation{.min_bytes = 4096,
                                                 .limit_bytes = 1048576,
                                                 .shares = {ShareLevel::kCustom, 2000},
                                                 .balloon_max_bytes = 8192}));
}

TEST(HandOff, RefusesAllocationsThatCannotBe) {
  const std::vector<std::pair<std::string, std::string>> table = {
      {R"("limit_bytes":null)", "\"limit_bytes\" is not an unsigned"},
      {R"("limit_bytes":"1M")", "\"limit_bytes\" is not an unsigned"},
      {R"("limit_bytes":18446744073709551615)", "not a multiple of 4096"},
      {R"("limit_bytes":0)", "VM web1: a min of 4 KB exceeds its limit of 0 bytes"},
      {R"("limit_bytes":8192)", "too small to run in"},
      {R"("balloon_max_bytes":4097)", "not a multiple of 4096"},
      {R"("balloon_max_bytes":20480)", "a balloon of up to 20 KB exceeds its memory of 16 KB"},
      {R"("shares":7)", "\"shares\" is not a string"},
      {R"("shares":"0")", "\"shares\" is neither low"},
      {R"("shares":"")", "\"shares\" is neither low"},
      {R"("shares":"\u001b[2J")", "\"shares\" is neither low"},
  };
  for (const auto& [member, words] : table) {
    const std::string message =
        message_for(with({"\"min_bytes\":4096", "\"min_bytes\":4096," + member}));
    EXPECT_THAT(message, HasSubstr(words)) << member;
    EXPECT_EQ(message.find('\x1b'), std::string::npos);
  }
}

TEST(HandOff, KeptDescriptorsAreNamedInOrder) {
  const auto result =
      parse_hand_off(with({"\"kept\":[]", R"("kept":["swap","tables","arena"])"}), 6);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_TRUE(result->has_kept);
  EXPECT_EQ(result->swap_at, 3u);
  EXPECT_EQ(result->tables_at, 4u);
  EXPECT_EQ(result->arena_at, 5u);
}

TEST(HandOff, ThePoolMayBeKeptToo) {
  const auto result =
      parse_hand_off(with({"\"kept\":[]", R"("kept":["tables","arena","swap","pool"])"}), 7);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_TRUE(result->has_kept);
  EXPECT_TRUE(result->has_pool);
  EXPECT_EQ(result->pool_at, 6u);
  EXPECT_FALSE(parse_hand_off(kGood, 3)->has_pool);
}

TEST(HandOff, WithWhomItMayShare) {
  const auto plain = parse_hand_off(kGood, 3);
  EXPECT_TRUE(plain->spec.share_enable);
  EXPECT_EQ(plain->spec.salt, "");
  const auto result = parse_hand_off(
      with({"\"min_bytes\":4096", R"("min_bytes":4096,"pshare":false,"salt":"team-\"a\"")"}), 3);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_FALSE(result->spec.share_enable);
  EXPECT_EQ(result->spec.salt, "team-\"a\"");
}

TEST(HandOff, SeveralRegions) {
  auto result = parse_hand_off(two_regions(second_region("8192", "0", 2)), 4);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->ram_files, 2u);
  EXPECT_TRUE(result->is_complete());
  result = parse_hand_off(two_regions(second_region("8192", "16384", 1)), 3);
  ASSERT_TRUE(result) << result.error().message;
  result = parse_hand_off(with({"\"memory_bytes\":16384", "\"memory_bytes\":20480"}), 3);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_FALSE(result->is_complete()) << "more regions to come";
}

TEST(HandOff, RefusesMembersThatAreWrong) {
  const std::string big = std::to_string(uint64_t{1} << 56);
  const std::vector<std::pair<Change, std::string>> table = {
      {{"\"version\":1", "\"version\":2"}, "protocol version 2"},
      {{"\"version\":1", "\"version\":\"1\""}, "\"version\" is not an unsigned"},
      {{"\"version\":1,", ""}, "lacks \"version\""},
      {{"\"web1\"", "\"\""}, "a VM's name is 1 to 64"},
      {{"\"web1\"", "\"a/b\""}, "a VM's name is 1 to 64"},
      {{"\"web1\"", "\"a\\u0000b\""}, "a VM's name is 1 to 64"},
      {{"\"web1\"", "\"" + std::string(65, 'a') + "\""}, "a VM's name is 1 to 64"},
      {{"\"web1\"", "17"}, "\"name\" is not a string"},
      {{"\"0a-1b\"", "\"x y\""}, "not a UUID"},
      {{"\"/run/q\"", "\"run/q\""}, "not an absolute path"},
      {{"\"/run/q\"", "\"/run/\\nq\""}, "not an absolute path"},
      {{"\"/run/q\"", "\"/" + std::string(107, 'q') + "\""}, "not an absolute path"},
      {{"\"memory_bytes\":16384", "\"memory_bytes\":0"}, "\"memory_bytes\" is 0"},
      {{"\"memory_bytes\":16384", "\"memory_bytes\":16385"}, "not a multiple of 4096"},
      {{"\"memory_bytes\":16384", "\"memory_bytes\":-16384"}, "not an unsigned 64-bit number"},
      {{"\"memory_bytes\":16384", "\"memory_bytes\":1e9"}, "not an unsigned 64-bit number"},
      {{"\"memory_bytes\":16384", "\"memory_bytes\":18446744073709551616"}, "not an unsigned"},
      {{"\"memory_bytes\":16384", "\"memory_bytes\":17592186044416"}, "16 TiB less one page"},
      {{"\"memory_bytes\":16384", "\"memory_bytes\":8192"}, "the regions have 16384 bytes"},
      {{"\"min_bytes\":4096", "\"min_bytes\":20480"}, "exceeds \"memory_bytes\""},
      {{"\"min_bytes\":4096", "\"min_bytes\":1"}, "not a multiple of 4096"},
      {{"\"min_bytes\":4096,", ""}, "lacks \"min_bytes\""},
      {{"1048576", "1048577"}, "\"base_host_virt_addr\" is 1048577"},
      {{"1048576", "0"}, "no user address range"},
      {{"1048576", big}, "no user address range"},
      {{"1048576", "18446744073709547520"}, "no user address range"},
      {{"\"size\":16384", "\"size\":0"}, "region 0 is empty"},
      {{"\"size\":16384", "\"size\":18446744073709547520"}, "no user address range"},
      {{"\"size\":16384", "\"size\":100"}, "\"size\" is 100"},
      {{"\"size\":16384", "\"size\":null"}, "not an unsigned"},
      {{"\"offset\":0", "\"offset\":5"}, "\"offset\" is 5"},
      {{"\"offset\":0", "\"offset\":18446744073709547520"}, "no file range"},
      {{"\"page_size\":4096", "\"page_size\":2097152"}, "no hugetlb backing"},
      {{"\"page_size_kib\":4096", "\"page_size_kib\":4"}, "differs from \"page_size\""},
      {{"\"ram_fd\":1", "\"ram_fd\":0"}, "\"ram_fd\" is 0"},
      {{"\"ram_fd\":1", "\"ram_fd\":24"}, "\"ram_fd\" is 24"},
      {{"\"ram_fd\":1", "\"ram_fd\":2"}, "RAM file 1 belongs to no region"},
      {{"\"ballast\":{", "\"other\":{"}, "lacks the object \"ballast\""},
      {{"\"kept\":[]", "\"kept\":[\"tables\"]"}, "tables, arena and swap, or nothing"},
      {{"\"kept\":[]", "\"kept\":[\"tables\",\"tables\",\"swap\"]"}, "names \"tables\" twice"},
      {{"\"kept\":[]", "\"kept\":[\"tables\",\"arena\",\"pool\"]"}, "or nothing"},
      {{"\"kept\":[]", "\"kept\":[1,2,3,4,5]"}, "at most 4 names"},
      {{"\"min_bytes\":4096", "\"min_bytes\":4096,\"pshare\":1"}, "\"pshare\" is neither"},
      {{"\"min_bytes\":4096", "\"min_bytes\":4096,\"pshare\":\"false\""}, "\"pshare\" is neither"},
      {{"\"min_bytes\":4096", "\"min_bytes\":4096,\"salt\":7"}, "\"salt\" is not a string"},
      {{"\"min_bytes\":4096", "\"min_bytes\":4096,\"salt\":\"none\""}, "'none'"},
      {{"\"min_bytes\":4096", "\"min_bytes\":4096,\"salt\":\"a b\""}, "128 printable"},
      {{"\"min_bytes\":4096", "\"min_bytes\":4096,\"salt\":\"a\\u001bb\""}, "128 printable"},
      {{"\"min_bytes\":4096", "\"min_bytes\":4096,\"salt\":\"\u00e4\""}, "128 printable"},
      {{"\"min_bytes\":4096", "\"min_bytes\":4096,\"salt\":\"" + std::string(129, 's') + "\""},
       "128 printable"},
      {{"\"kept\":[]", "\"kept\":[\"uffd\"]"}, "something else than"},
      {{"\"kept\":[]", "\"kept\":[7]"}, "something else than"},
      {{"\"kept\":[]", "\"kept\":{}"}, "\"kept\" is not an array"},
  };
  for (const auto& [change, words] : table) {
    EXPECT_THAT(message_for(with(change)), HasSubstr(words)) << change.from << " → " << change.to;
  }
}

TEST(HandOff, RefusesTextsThatAreNoHandOff) {
  EXPECT_THAT(message_for(""), HasSubstr("not one whole JSON text"));
  EXPECT_THAT(message_for("hello"), HasSubstr("not one whole JSON text"));
  EXPECT_THAT(message_for(kGood.substr(0, kGood.size() / 2)), HasSubstr("not one whole JSON text"));
  EXPECT_THAT(message_for(kGood + "x"), HasSubstr("not one whole JSON text"));
  EXPECT_THAT(message_for(kGood + kGood), HasSubstr("not one whole JSON text"));
  EXPECT_THAT(message_for(std::string(10000, '[')), HasSubstr("not one whole JSON text"));
  EXPECT_THAT(message_for(std::string("\xff\xfe", 2)), HasSubstr("not one whole JSON text"));
  EXPECT_THAT(message_for("{}"), HasSubstr("not an array"));
  EXPECT_THAT(message_for("[]"), HasSubstr("not an array"));
  EXPECT_THAT(message_for("[1]"), HasSubstr("region 0 is not an object"));
  EXPECT_THAT(message_for("[[]]"), HasSubstr("region 0 is not an object"));
  EXPECT_THAT(message_for(kGood + std::string(kAgentHandOffBytesMax, ' ')),
              HasSubstr("longer than 16384 bytes"));
  std::string many = kGood.substr(0, kGood.size() - 1);
  for (int i = 0; i < 16; ++i) many += ",{}";
  EXPECT_THAT(message_for(many + "]"), HasSubstr("17 regions"));
}

TEST(HandOff, RefusesDescriptorsThatDoNotMatch) {
  EXPECT_THAT(message_for(kGood, 0), HasSubstr("0 descriptors came"));
  EXPECT_THAT(message_for(kGood, 2), HasSubstr("2 descriptors came"));
  EXPECT_THAT(message_for(kGood, 4), HasSubstr("4 descriptors came"));
}

TEST(HandOff, RefusesOverlaps) {
  EXPECT_THAT(message_for(two_regions(second_region("1052672", "0", 2)), 4),
              HasSubstr("overlap in the address space"));
  EXPECT_THAT(message_for(two_regions(second_region("1048576", "0", 2)), 4),
              HasSubstr("overlap in the address space"));
  EXPECT_THAT(message_for(two_regions(second_region("8192", "12288", 1))),
              HasSubstr("overlap in their RAM file"));
}

}  // namespace
}  // namespace ballast::linux_machine
