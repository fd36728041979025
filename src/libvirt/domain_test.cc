#include "libvirt/domain.h"

#include <gtest/gtest.h>

namespace ballast::libvirt {
namespace {

std::string domain_xml(const std::string& metadata,
                       const std::string& emulator = "/usr/bin/ballast-qemu") {
  return "<domain type='qemu' id='1'>\n  <name>web1</name>\n"
         "  <uuid>12345678-1234-1234-1234-123456789abc</uuid>\n" +
         metadata + "  <devices><emulator>" + emulator + "</emulator></devices>\n</domain>\n";
}

std::string ours(const std::string& attributes) {
  return domain_xml("<metadata><b:memory xmlns:b='https://ballast.dev/domain/1.0' " + attributes +
                    "/></metadata>");
}

std::string refusal(const std::string& xml) {
  const auto domain = parse_domain(xml);
  return domain ? "" : domain.error().message;
}

TEST(Domain, TellsAllItsParameters) {
  const auto domain = parse_domain(
      ours("min='512M' limit='3G' shares='high' balloon-max='1.5G' salt='web' pshare='off'"));
  ASSERT_TRUE(domain) << domain.error().message;
  EXPECT_TRUE(domain->managed);
  EXPECT_EQ(domain->uuid, "12345678-1234-1234-1234-123456789abc");
  EXPECT_EQ(format_parameters(*domain),
            "BALLAST_VM_MIN=536870912\nBALLAST_VM_LIMIT=3221225472\nBALLAST_VM_SHARES=high\n"
            "BALLAST_VM_BALLOON_MAX=1610612736\nBALLAST_VM_SALT=web\nBALLAST_VM_PSHARE=0\n");
}

TEST(Domain, MayHaveNone) {
  for (const std::string& metadata :
       {std::string(), std::string("<metadata/>"),
        std::string("<metadata><memory min='1G'/></metadata>"),
        std::string("<metadata><b:memory xmlns:b='urn:of.another' min='x'/></metadata>")}) {
    const auto domain = parse_domain(domain_xml(metadata));
    ASSERT_TRUE(domain) << domain.error().message;
    EXPECT_TRUE(domain->managed);
    EXPECT_EQ(format_parameters(*domain), "");
  }
}

TEST(Domain, OfAnotherEmulatorIsNoneOfOurs) {
  const auto domain = parse_domain(domain_xml("", "/usr/bin/qemu-system-x86_64"));
  ASSERT_TRUE(domain);
  EXPECT_FALSE(domain->managed);
}

TEST(Domain, WrongParametersAreRefusedByName) {
  EXPECT_EQ(refusal(ours("min='lots'")).substr(0, 64),
            "<memory> of https://ballast.dev/domain/1.0: min='lots': 'lots' i");
  EXPECT_NE(refusal(ours("shares='some'")).find("shares='some'"), std::string::npos);
  EXPECT_NE(refusal(ours("salt='a b'")).find("salt='a b'"), std::string::npos);
  EXPECT_NE(refusal(ours("salt='a&#10;BALLAST_VM_MIN=1'")).find("salt="), std::string::npos);
  EXPECT_NE(refusal(ours("pshare='maybe'")).find("on or off"), std::string::npos);
  EXPECT_NE(refusal(ours("maximum='1G'")).find("known are min, limit"), std::string::npos);
}

TEST(Domain, WhatIsNoXmlIsRefused) {
  for (const char* xml : {"", "nonsense", "<domain>", "<network/>", "<domain/><domain/>"}) {
    EXPECT_EQ(refusal(xml), "what libvirt gave us is no domain's XML") << xml;
  }
  // Entities are not expanded a billion times.
  const std::string bomb =
      "<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>"
      "<!ENTITY c '&b;&b;&b;&b;&b;&b;&b;&b;'><!ENTITY d '&c;&c;&c;&c;&c;&c;&c;&c;'>]>"
      "<domain><uuid>&d;</uuid><devices><emulator>/usr/bin/ballast-qemu</emulator></devices></"
      "domain>";
  EXPECT_NE(refusal(bomb), "");
  const std::string uuid = "../../../../../../../../../../etc/pas";
  EXPECT_NE(refusal("<domain><uuid>" + uuid +
                    "</uuid><devices><emulator>ballast-qemu</emulator></devices></domain>"),
            "");
}

}  // namespace
}  // namespace ballast::libvirt
