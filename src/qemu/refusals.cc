#include "qemu/refusals.h"

#include <linux/magic.h>
#include <sys/vfs.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace ballast::qemu {

namespace {

Error refuse(const Option& option, std::string_view why_and_what) {
  const std::string written = option.has_value ? option.flag + " " + option.value : option.flag;
  return Error{fmt::format("{}: {}", written, why_and_what)};
}

struct DriverRule {
  std::string_view prefix;
  std::string_view text;
};

constexpr std::string_view kPinned =
    "the device reads and writes guest RAM behind the pager, which pins every page";
constexpr std::string_view kMapped =
    "another process would map guest RAM and see pages that Ballast took back as zeros";

constexpr std::array<DriverRule, 12> kDevices = {{
    {"vfio-", "device assignment pins all guest RAM; use a virtio device instead"},
    {"vhost-vdpa", "vDPA pins all guest RAM; use virtio-net-pci or virtio-blk-pci instead"},
    {"vhost-user-fs",
     "virtiofsd would map guest RAM and miss Ballast's pages; use -virtfs "
     "(virtio-9p-pci) instead"},
    {"vhost-user-",
     "another process would map guest RAM and miss Ballast's pages; use the virtio "
     "device of the same kind that QEMU implements itself"},
    {"ivshmem",
     "memory shared with other processes cannot be managed; use a socket or "
     "virtio-vsock instead"},
    {"pvrdma", "RDMA pins guest RAM; use virtio-net-pci instead"},
    {"pc-dimm",
     "memory devices are not managed; give the VM all its memory with -m and let Ballast "
     "balance it"},
    {"nvdimm", "memory devices are not managed; use -drive with virtio-blk-pci instead"},
    {"virtio-mem",
     "memory devices are not managed; give the VM all its memory with -m and let "
     "Ballast balance it"},
    {"virtio-pmem", "memory devices are not managed; use -drive with virtio-blk-pci instead"},
    {"x-pci-proxy-dev",
     "another process would map guest RAM and miss Ballast's pages; use the "
     "device in QEMU itself"},
    {"cxl-type3", "memory devices are not managed; give the VM all its memory with -m"},
}};

Status check_device(const Option& option, const OptionValue& value) {
  const std::string driver = value.get("driver").value_or("");
  for (const DriverRule& rule : kDevices) {
    if (driver.starts_with(rule.prefix)) return refuse(option, rule.text);
  }
  return Done{};
}

Status check_net(const Option& option, const OptionValue& value) {
  const std::string type = value.get("type").value_or("");
  if (type == "vhost-user") {
    return refuse(option,
                  fmt::format("{}; use -netdev tap,vhost=on or -netdev user instead", kMapped));
  }
  if (type == "vhost-vdpa") {
    return refuse(option, fmt::format("{}; use -netdev tap,vhost=on instead", kPinned));
  }
  return Done{};
}

// O_DIRECT transfers hold guest pages while the disk works: a page that is evicted meanwhile loses
// what was read.
Status check_disk(const Option& option, const OptionValue& value) {
  bool direct = false;
  std::string direct_name;
  std::string aio;
  for (const auto& [key, content] : value.items()) {
    if (key_is(key, "cache.direct") && means_on(content)) {
      direct = true;
      direct_name = "cache.direct=on";
    } else if (key == "cache" && (content == "none" || content == "directsync")) {
      direct = true;
      direct_name = "cache=" + content;
    } else if (key_is(key, "aio")) {
      aio = content;
    }
  }
  constexpr std::string_view kWhy =
      "transfers straight between disk and guest RAM (O_DIRECT) lose data when a page is taken "
      "back "
      "meanwhile";
  if (aio == "native") {
    return refuse(option, fmt::format("aio=native: {}; use aio=threads and cache=writeback", kWhy));
  }
  if (direct && aio == "io_uring") {
    return refuse(option,
                  fmt::format("aio=io_uring with {}: {}; use cache=writeback", direct_name, kWhy));
  }
  if (direct) {
    return refuse(option,
                  fmt::format("{}: {}; use cache=writeback (cache.direct=off)", direct_name, kWhy));
  }
  return Done{};
}

Status check_file_backend(const Option& option, const OptionValue& value, const HostFiles& files) {
  const auto path = value.get("mem-path");
  if (!path) return Done{};  // QEMU names the missing option itself
  switch (files.file_system(*path)) {
    case FileSystem::kTmpfs:
      break;
    case FileSystem::kHugetlbfs:
      return refuse(option,
                    "huge page files (hugetlbfs) cannot be taken back page by page; use "
                    "memory-backend-memfd,share=on, or leave the backend out");
    case FileSystem::kOther:
    case FileSystem::kUnknown:
      return refuse(option,
                    "guest RAM must be in memory, and mem-path is not on a tmpfs; use "
                    "memory-backend-memfd,share=on, or leave the backend out");
  }
  if (!value.is_on("share")) {
    return refuse(option, "guest RAM must be a shared file; add share=on");
  }
  return Done{};
}

Status check_object(const Option& option, const OptionValue& value, const HostFiles& files) {
  const std::string type = value.get("qom-type").value_or("");
  if (type.starts_with("x-vfio-user") || type.starts_with("x-remote")) {
    return refuse(option, fmt::format("{}; run the device in QEMU itself", kMapped));
  }
  if (type.starts_with("sev-") || type.starts_with("tdx-")) {
    return refuse(option, "encrypted guests pin all their RAM; run the VM without it");
  }
  if (!type.starts_with("memory-backend-")) return Done{};
  if (value.is_on("prealloc")) {
    return refuse(option, "prealloc=on would allocate all guest RAM at once; use prealloc=off");
  }
  if (value.is_on("hugetlb")) {
    return refuse(option,
                  "hugetlb=on: huge page files cannot be taken back page by page; use "
                  "hugetlb=off");
  }
  if (type == "memory-backend-memfd") {
    const auto share = value.get("share");
    if (share && !means_on(*share)) {
      return refuse(option, "share=off: guest RAM must be a shared file; use share=on");
    }
  } else if (type == "memory-backend-file") {
    return check_file_backend(option, value, files);
  } else if (type != "memory-backend-ram") {
    return refuse(option,
                  "this kind of guest RAM cannot be managed; use "
                  "memory-backend-memfd,share=on, or leave the backend out");
  }
  return Done{};
}

Status check_machine(const Option& option, const OptionValue& value) {
  if (value.get("confidential-guest-support") || value.get("memory-encryption")) {
    return refuse(option, "encrypted guests pin all their RAM; leave it out");
  }
  if (value.get("memory.size"))
    return refuse(option, "give the memory with -m instead of memory.size");
  return Done{};
}

Status check_config_file(const Option& option, const HostFiles& files) {
  const auto content = files.read(option.value);
  if (!content) {
    return refuse(option,
                  fmt::format("the file cannot be checked ({}); put its options on the command "
                              "line",
                              content.error().message));
  }
  std::istringstream lines(content.value());
  for (std::string text; std::getline(lines, text);) {
    const auto start = text.find_first_not_of(" \t");
    if (start == std::string::npos) continue;
    const std::string_view rest = std::string_view(text).substr(start);
    for (const std::string_view section : {"[memory", "[object", "[machine", "[accel", "[device",
                                           "[drive", "[netdev", "[numa", "[overcommit"}) {
      if (rest.starts_with(section)) {
        return refuse(option, fmt::format("the file sets {}]: Ballast must see that on the command "
                                          "line; move it there",
                                          section));
      }
    }
  }
  return Done{};
}

Status check_by_name(const Option& option, const HostFiles& files) {
  if (option.name == "readconfig") return check_config_file(option, files);
  if (option.name == "mem-prealloc") {
    return refuse(option, "would allocate all guest RAM at once; leave it out");
  }
  if (option.name == "mem-path") {
    return refuse(option,
                  "guest RAM must be a memory file that Ballast can take pages from; leave it "
                  "out, and the VM gets one");
  }
  if (option.name == "chroot") {
    return refuse(option, "inside of it the VM could not reach a restarted ballastd; leave it out");
  }
  if (option.name == "incoming" && option.value.starts_with("rdma:")) {
    return refuse(option, "RDMA pins guest RAM; use tcp: instead");
  }
  return Done{};
}

Status check_option(const Option& option, const HostFiles& files) {
  BALLAST_TRY_STATUS(check_by_name(option, files));
  constexpr std::array<std::string_view, 13> kParsed = {
      "machine",  "device",     "object",   "netdev", "nic",      "net", "drive",
      "blockdev", "overcommit", "realtime", "global", "run-with", "numa"};
  if (std::find(kParsed.begin(), kParsed.end(), option.name) == kParsed.end()) return Done{};
  BALLAST_TRY(const OptionValue value, parse_value(option));
  if (option.name == "machine") return check_machine(option, value);
  if (option.name == "device") return check_device(option, value);
  if (option.name == "object") return check_object(option, value, files);
  if (option.name == "netdev" || option.name == "nic" || option.name == "net") {
    return check_net(option, value);
  }
  if (option.name == "drive" || option.name == "blockdev") return check_disk(option, value);
  if (value.is_on("mem-lock") || value.is_on("mlock")) {
    return refuse(option, "would lock all guest RAM in memory; use mem-lock=off");
  }
  if (option.name == "run-with" && value.get("chroot")) {
    return refuse(option, "inside of it the VM could not reach a restarted ballastd; leave it out");
  }
  if (option.name == "global" && value.any_on("prealloc")) {
    return refuse(option, "prealloc=on would allocate all guest RAM at once; leave it out");
  }
  if (option.name == "numa" && value.get("mem")) {
    return refuse(option,
                  "guest RAM of NUMA nodes must come from backends; use memdev= with a "
                  "memory-backend-memfd,share=on for every node");
  }
  return Done{};
}

}  // namespace

Status find_refusal(const CommandLine& line, const HostFiles& files) {
  for (const Option& option : line.options()) {
    if (!option.flag.empty()) BALLAST_TRY_STATUS(check_option(option, files));
  }
  return Done{};
}

HostFiles real_host_files() {
  HostFiles files;
  files.file_system = [](const std::string& path) {
    struct statfs status {};
    // A file that QEMU will create lives where its directory is.
    const std::string parent = std::filesystem::path(path).parent_path().string();
    if (statfs(path.c_str(), &status) != 0 &&
        statfs(parent.empty() ? "." : parent.c_str(), &status) != 0) {
      return FileSystem::kUnknown;
    }
    if (status.f_type == TMPFS_MAGIC) return FileSystem::kTmpfs;
    return status.f_type == HUGETLBFS_MAGIC ? FileSystem::kHugetlbfs : FileSystem::kOther;
  };
  files.read = [](const std::string& path) -> Result<std::string> {
    // A pipe or descriptor could be read once only, and QEMU has to read it too.
    if (!std::filesystem::is_regular_file(path)) return Error{"it is not a regular file"};
    std::ifstream stream(path);
    std::ostringstream content;
    content << stream.rdbuf();
    if (!stream) return Error{"it cannot be read"};
    return content.str();
  };
  return files;
}

}  // namespace ballast::qemu
