#include "qemu/option_value.h"

#include <gtest/gtest.h>

#include "qemu/command_line.h"

namespace ballast::qemu {
namespace {

OptionValue parse(std::string_view text, std::string_view implied = "") {
  return OptionValue::parse(text, implied).value();
}

TEST(OptionValue, ReadsKeysSwitchesAndImpliedKey) {
  const OptionValue value = parse("pc,accel=kvm,usb", "type");
  EXPECT_EQ(value.get("type"), "pc");
  EXPECT_EQ(value.get("accel"), "kvm");
  EXPECT_TRUE(value.is_on("usb"));
  EXPECT_EQ(value.get("none"), std::nullopt);
  EXPECT_EQ(parse("a=1,a=2").get("a"), "2");
}

TEST(OptionValue, DoubledCommasBelongToTheValue) {
  const OptionValue value = parse("file=a,,b.img,format=raw");
  EXPECT_EQ(value.get("file"), "a,b.img");
  EXPECT_EQ(value.text(), "file=a,,b.img,format=raw");
}

TEST(OptionValue, EditingKeepsTheForm) {
  OptionValue value = parse("pc,accel=kvm", "type");
  value.set("memory-backend", "r");
  value.set("accel", "tcg");
  EXPECT_EQ(value.text(), "pc,accel=tcg,memory-backend=r");
  OptionValue json = parse(R"({"qom-type":"memory-backend-ram","id":"r","size":4096})");
  json.set("qom-type", "memory-backend-memfd");
  json.set("share", "on");
  EXPECT_EQ(json.text(),
            R"({"qom-type":"memory-backend-memfd","id":"r","size":4096,"share":true})");
}

TEST(OptionValue, JsonReadsAsDottedKeys) {
  const OptionValue value =
      parse(R"({"driver":"qcow2","file":{"cache":{"direct":true},"aio":"native"}})");
  EXPECT_EQ(value.get("file.aio"), "native");
  EXPECT_TRUE(value.any_on("cache.direct"));
  EXPECT_FALSE(OptionValue::parse("{\"driver\":", "").has_value());
}

TEST(CommandLine, KeepsEveryWordInOrder) {
  const std::vector<std::string> words = {"-m",   "256",     "disk.img",  "--nographic",
                                          "-S",   "-kernel", "k",         "-append",
                                          "-x y", "-device", "e1000,id=n"};
  const auto line = CommandLine::parse(words);
  ASSERT_TRUE(line);
  EXPECT_EQ(line->arguments(), words);
  EXPECT_EQ(line->last("append")->value, "-x y");
  EXPECT_TRUE(line->has("nographic"));
  EXPECT_EQ(CommandLine::parse({"-M", "q35"})->last("machine")->value, "q35");
  EXPECT_EQ(CommandLine::parse({"-kernel"})->arguments(), std::vector<std::string>{"-kernel"});
}

}  // namespace
}  // namespace ballast::qemu
