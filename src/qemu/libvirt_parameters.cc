#include "qemu/libvirt_parameters.h"

#include <fmt/format.h>

#include <algorithm>

namespace ballast::qemu {

namespace {

std::string* member_of(Environment& environment, std::string_view name) {
  if (name == "BALLAST_VM_MIN") return &environment.min_bytes;
  if (name == "BALLAST_VM_LIMIT") return &environment.limit_bytes;
  if (name == "BALLAST_VM_SHARES") return &environment.shares;
  if (name == "BALLAST_VM_BALLOON_MAX") return &environment.balloon_max_bytes;
  if (name == "BALLAST_VM_SALT") return &environment.salt;
  if (name == "BALLAST_VM_PSHARE") return &environment.pshare;
  return nullptr;
}

}  // namespace

// libvirt gives every QEMU that it runs a secret of this name to encrypt others with.
bool is_started_by_libvirt(const CommandLine& line) {
  return std::ranges::any_of(line.options(), [](const Option& option) {
    if (option.name != "object") return false;
    const auto value = parse_value(option);
    return value && value->get("qom-type") == "secret" && value->get("id") == "masterKey0";
  });
}

Result<std::string> add_libvirt_parameters(const CommandLine& line, const HostFiles& files,
                                           const std::string& run_dir, Environment& environment) {
  const Option* uuid = line.last("uuid");
  if (uuid == nullptr || uuid->value.find('/') != std::string::npos) return std::string();
  const std::string path = fmt::format("{}/libvirt/{}", run_dir, uuid->value);
  const auto text = files.read(path);
  if (!text) {
    return fmt::format(
        "what the domain's metadata says of its memory is not known ({}); install "
        "ballast-libvirt-hook as /etc/libvirt/hooks/qemu.d/ballast and restart libvirtd",
        text.error().message);
  }
  for (size_t begin = 0; begin < text->size();) {
    const size_t end = std::min(text->find('\n', begin), text->size());
    const std::string_view one = std::string_view(*text).substr(begin, end - begin);
    const size_t equals = one.find('=');
    std::string* member = member_of(environment, one.substr(0, equals));
    if (equals == std::string_view::npos || member == nullptr) {
      return Error{
          fmt::format("{}: '{}' is no parameter; are ballast-qemu and "
                      "ballast-libvirt-hook of one version?",
                      path, one)};
    }
    if (member->empty()) *member = one.substr(equals + 1);
    begin = end + 1;
  }
  return std::string();
}

}  // namespace ballast::qemu
