#include "libvirt/domain.h"

#include <fmt/format.h>
#include <libxml/parser.h>
#include <libxml/tree.h>

#include <algorithm>
#include <memory>

#include "base/units.h"
#include "model/allocation.h"
#include "model/salt.h"

namespace ballast::libvirt {

namespace {

constexpr size_t kXmlBytesMax = size_t{16} << 20;

struct FreeDocument {
  void operator()(xmlDoc* document) const { xmlFreeDoc(document); }
};
struct FreeText {
  void operator()(xmlChar* text) const { xmlFree(text); }
};

std::string owned(xmlChar* text) {
  const std::unique_ptr<xmlChar, FreeText> holder(text);
  return text == nullptr ? std::string() : std::string(reinterpret_cast<const char*>(text));
}

std::string name_of(const xmlChar* text) { return reinterpret_cast<const char*>(text); }

bool has_namespace(const xmlNode& node, std::string_view space) {
  return space.empty() ? node.ns == nullptr : node.ns != nullptr && name_of(node.ns->href) == space;
}

const xmlNode* child(const xmlNode* parent, std::string_view name, std::string_view space = "") {
  for (const xmlNode* node = parent == nullptr ? nullptr : parent->children; node != nullptr;
       node = node->next) {
    if (node->type == XML_ELEMENT_NODE && name_of(node->name) == name &&
        has_namespace(*node, space)) {
      return node;
    }
  }
  return nullptr;
}

std::string content(const xmlNode* node) {
  return node == nullptr ? std::string() : owned(xmlNodeGetContent(node));
}

Result<std::string> bytes_text(const std::string& text) {
  BALLAST_TRY(const uint64_t bytes, parse_size(text));
  return std::to_string(bytes);
}

// One attribute as ballast-qemu's environment has it.
Result<std::pair<std::string, std::string>> parameter(const std::string& name,
                                                      const std::string& text) {
  using Pair = std::pair<std::string, std::string>;
  if (name == "min") {
    BALLAST_TRY(std::string bytes, bytes_text(text));
    return Pair{"BALLAST_VM_MIN", std::move(bytes)};
  }
  if (name == "limit") {
    BALLAST_TRY(std::string bytes, bytes_text(text));
    return Pair{"BALLAST_VM_LIMIT", std::move(bytes)};
  }
  if (name == "balloon-max") {
    BALLAST_TRY(std::string bytes, bytes_text(text));
    return Pair{"BALLAST_VM_BALLOON_MAX", std::move(bytes)};
  }
  if (name == "shares") {
    BALLAST_TRY(const Shares shares, parse_shares(text));
    return Pair{"BALLAST_VM_SHARES", format_shares(shares)};
  }
  if (name == "salt") {
    BALLAST_TRY_STATUS(check_salt(text));
    return Pair{"BALLAST_VM_SALT", text};
  }
  if (name == "pshare") {
    if (text != "on" && text != "off") return Error{"on or off is needed"};
    return Pair{"BALLAST_VM_PSHARE", text == "on" ? "1" : "0"};
  }
  return Error{"unknown; known are min, limit, shares, balloon-max, salt and pshare"};
}

Status read_parameters(const xmlNode* element, Domain& domain) {
  for (const xmlAttr* attribute = element->properties; attribute != nullptr;
       attribute = attribute->next) {
    const std::string name = name_of(attribute->name);
    const std::string text =
        owned(xmlNodeListGetString(element->doc, attribute->children, /*inLine=*/1));
    auto one = parameter(name, text);
    if (!one) {
      return Error{
          fmt::format("<memory> of {}: {}='{}': {}", kNamespace, name, text, one.error().message)};
    }
    domain.parameters.push_back(*std::move(one));
  }
  return Done{};
}

}  // namespace

Result<Domain> parse_domain(std::string_view xml) {
  if (xml.size() > kXmlBytesMax) return Error{"the domain's XML is larger than 16 MB"};
  // No network, no files, no entities of its own, no words on stderr.
  const std::unique_ptr<xmlDoc, FreeDocument> document(
      xmlReadMemory(xml.data(), static_cast<int>(xml.size()), "domain.xml", nullptr,
                    XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING));
  const xmlNode* root = document ? xmlDocGetRootElement(document.get()) : nullptr;
  if (root == nullptr || name_of(root->name) != "domain") {
    return Error{"what libvirt gave us is no domain's XML"};
  }
  Domain domain;
  domain.uuid = content(child(root, "uuid"));
  const std::string emulator = content(child(child(root, "devices"), "emulator"));
  domain.managed = emulator.substr(emulator.rfind('/') + 1) == "ballast-qemu";
  if (!domain.managed) return domain;
  const bool good_uuid =
      domain.uuid.size() == 36 &&
      domain.uuid.find_first_not_of("0123456789abcdefABCDEF-") == std::string::npos;
  if (!good_uuid) return Error{fmt::format("the domain's uuid '{}' is none", domain.uuid)};
  if (const xmlNode* element = child(child(root, "metadata"), "memory", kNamespace)) {
    BALLAST_TRY_STATUS(read_parameters(element, domain));
  }
  return domain;
}

std::string format_parameters(const Domain& domain) {
  std::string text;
  for (const auto& [name, value] : domain.parameters) text += name + '=' + value + '\n';
  return text;
}

}  // namespace ballast::libvirt
