#include "qemu/refusals.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ballast::qemu {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;
using Words = std::vector<std::string>;

std::string judge(const Words& words) {
  HostFiles files;
  files.file_system = [](const std::string& path) {
    if (path.starts_with("/dev/shm")) return FileSystem::kTmpfs;
    return path.starts_with("/hugepages") ? FileSystem::kHugetlbfs : FileSystem::kOther;
  };
  files.read = [](const std::string& path) -> Result<std::string> {
    if (path == "memory.cfg") return std::string("# mine\n[object \"r\"]\n  qom-type = \"x\"\n");
    if (path == "harmless.cfg") return std::string("[name]\n  guest = \"x\"\n");
    return Error{"no such file"};
  };
  const auto line = CommandLine::parse(words);
  const Status status = find_refusal(line.value(), files);
  return status ? "" : status.error().message;
}

struct Case {
  Words words;
  std::string use_instead;
};

// Each refusal begins with the option as written and says what to use instead.
TEST(Refusals, NameTheOptionAndTheAlternative) {
  const std::vector<Case> cases = {
      {{"-object", "memory-backend-memfd,id=r,size=1G,prealloc=on"}, "use prealloc=off"},
      {{"-object", R"({"qom-type":"memory-backend-memfd","id":"r","size":1,"prealloc":true})"},
       "use prealloc=off"},
      {{"-object", "memory-backend-ram,id=r,size=1G,prealloc"}, "use prealloc=off"},
      {{"-mem-prealloc"}, "leave it out"},
      {{"-overcommit", "mem-lock=on"}, "use mem-lock=off"},
      {{"-overcommit", "cpu-pm=on,mem-lock=on"}, "use mem-lock=off"},
      {{"-device", "vfio-pci,host=01:00.0"}, "use a virtio device"},
      {{"-device", R"({"driver":"vfio-pci","host":"0000:01:00.0"})"}, "use a virtio device"},
      {{"-device", "vhost-user-fs-pci,chardev=c,tag=t"}, "virtio-9p-pci"},
      {{"-device", "vhost-user-blk-pci,chardev=c"}, "use the virtio device of the same kind"},
      {{"-device", "vhost-vdpa-device-pci"}, "virtio-net-pci"},
      {{"-device", "ivshmem-plain,memdev=m"}, "virtio-vsock"},
      {{"-device", "pc-dimm,memdev=m"}, "-m"},
      {{"-device", "virtio-mem-pci,memdev=m"}, "-m"},
      {{"-netdev", "vhost-user,id=n,chardev=c"}, "use -netdev tap"},
      {{"-netdev", R"({"type":"vhost-user","id":"n","chardev":"c"})"}, "use -netdev tap"},
      {{"-netdev", "type=vhost-vdpa,id=n"}, "use -netdev tap"},
      {{"-drive", "file=x,aio=native,cache=none"}, "aio=threads"},
      {{"-drive", "file=x,aio=io_uring,cache=none"}, "use cache=writeback"},
      {{"-drive", "file=x,aio=io_uring,cache.direct=on"}, "use cache=writeback"},
      {{"-drive", "file=x,cache=directsync"}, "use cache=writeback"},
      {{"-blockdev", R"({"driver":"file","filename":"x","aio":"native","cache":{"direct":true}})"},
       "aio=threads"},
      {{"-blockdev",
        R"({"driver":"raw","file":{"driver":"file","filename":"x","cache":{"direct":true}}})"},
       "cache.direct=off"},
      {{"-blockdev", "driver=raw,file.driver=file,file.filename=x,file.cache.direct=on"},
       "cache.direct=off"},
      {{"-object", "memory-backend-memfd,id=r,size=1G,hugetlb=on"}, "use hugetlb=off"},
      {{"-object", "memory-backend-memfd,id=r,size=1G,share=off"}, "use share=on"},
      {{"-object", "memory-backend-file,id=r,size=1G,share=on,mem-path=/hugepages/x"},
       "memory-backend-memfd"},
      {{"-object", "memory-backend-file,id=r,size=1G,share=on,mem-path=/var/x"},
       "memory-backend-memfd"},
      {{"-object", "memory-backend-file,id=r,size=1G,mem-path=/dev/shm/x"}, "add share=on"},
      {{"-mem-path", "/dev/shm"}, "leave it out"},
      {{"-numa", "node,mem=512"}, "use memdev="},
      {{"-incoming", "rdma:host:1"}, "use tcp:"},
      {{"-readconfig", "memory.cfg"}, "command line"},
      {{"-readconfig", "absent.cfg"}, "command line"},
      {{"-machine", "q35,confidential-guest-support=sev0"}, "leave it out"},
      {{"-chroot", "/var/empty"}, "leave it out"},
      {{"-global", "memory-backend-memfd.prealloc=on"}, "leave it out"},
  };
  for (const Case& refused : cases) {
    std::string written = refused.words[0];
    if (refused.words.size() > 1) written += " " + refused.words[1];
    EXPECT_THAT(judge(refused.words),
                AllOf(StartsWith(written + ": "), HasSubstr(refused.use_instead)));
  }
}

TEST(Refusals, OrdinaryOptionsPass) {
  for (const Words& words : std::vector<Words>{
           {"-object", "memory-backend-memfd,id=r,size=1G,share=on,prealloc=off"},
           {"-object", "rng-random,id=g,filename=/dev/urandom"},
           {"-overcommit", "mem-lock=off"},
           {"-drive", "file=x,if=virtio,cache=writeback,aio=io_uring"},
           {"-drive", "file=x,aio=threads"},
           {"-blockdev", R"({"driver":"file","filename":"x","cache":{"direct":false}})"},
           {"-device", "virtio-net-pci,netdev=n"},
           {"-netdev", "tap,id=n,vhost=on"},
           {"-readconfig", "harmless.cfg"},
           {"-append", "cache=none mem-lock=on prealloc=on"},
           {"disk.img"}}) {
    EXPECT_EQ(judge(words), "");
  }
}

TEST(Refusals, BrokenJsonIsNamed) {
  EXPECT_THAT(judge({"-object", "{\"qom-type\":"}),
              AllOf(StartsWith("-object: "), HasSubstr("not valid JSON")));
}

}  // namespace
}  // namespace ballast::qemu
