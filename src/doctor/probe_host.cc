// Asks the kernel and the disk.
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/result.h"
#include "doctor/doctor.h"

namespace ballast::doctor {

namespace {

std::string error_text() { return std::strerror(errno); }

std::string first_word_of(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  file >> word;
  return word;
}

uint64_t number_in(const std::string& path) {
  std::ifstream file(path);
  uint64_t number = 0;
  file >> number;
  return number;
}

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }

 private:
  const int fd_;
};

// As the agent makes one.
int make_userfaultfd() {
  const int flags = O_CLOEXEC | O_NONBLOCK;
  const int fd = static_cast<int>(syscall(SYS_userfaultfd, flags));
  if (fd >= 0 || errno != EPERM) return fd;
  const Fd device(open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  if (!device.ok()) {
    errno = EPERM;
    return -1;
  }
  return ioctl(device.get(), USERFAULTFD_IOC_NEW, flags);
}

void probe_userfaultfd(KernelFacts& kernel) {
  const Fd fd(make_userfaultfd());
  uffdio_api api{};
  api.api = UFFD_API;
  if (!fd.ok() || ioctl(fd.get(), UFFDIO_API, &api) != 0) {
    kernel.userfaultfd_error = error_text();
  }
  kernel.userfaultfd_features = api.features;
}

std::string sealing_error() {
  const Fd file(memfd_create("ballast-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  const bool good = file.ok() && ftruncate(file.get(), 4096) == 0 &&
                    fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0;
  return good ? "" : error_text();
}

// "always [madvise] never": the word in brackets.
std::string chosen_word(const std::string& path) {
  std::ifstream file(path);
  for (std::string word; file >> word;) {
    if (word.size() > 2 && word.front() == '[') return word.substr(1, word.size() - 2);
  }
  return {};
}

std::vector<HostSwap> host_swaps() {
  std::vector<HostSwap> swaps;
  std::ifstream file("/proc/swaps");
  std::string line;
  std::getline(file, line);  // titles
  while (std::getline(file, line)) {
    std::istringstream words(line);
    HostSwap swap;
    std::string type;
    if (!(words >> swap.name >> type >> swap.bytes >> swap.used_bytes)) continue;
    swap.bytes *= 1024;
    swap.used_bytes *= 1024;
    swaps.push_back(swap);
  }
  return swaps;
}

std::optional<double> memory_pressure() {
  std::ifstream file("/proc/pressure/memory");
  for (std::string word; file >> word;) {
    if (word.starts_with("avg60=")) return std::strtod(word.c_str() + 6, nullptr);  // of "some"
  }
  return {};
}

// A partition's queue is its disk's. A virtio disk always says that it turns.
bool rotates(dev_t device) {
  const std::string base = fmt::format("/sys/dev/block/{}:{}", major(device), minor(device));
  std::error_code problem;
  const std::string where = std::filesystem::canonical(base, problem).string();
  if (problem || where.find("/virtio") != std::string::npos) return false;
  for (const char* queue : {"/queue/rotational", "/../queue/rotational"}) {
    if (std::filesystem::exists(where + queue, problem)) return number_in(where + queue) == 1;
  }
  return false;
}

// Writes a nameless file of 1 MB with direct I/O and reads 4 KB parts of it.
void probe_disk(SwapDirFacts& swap) {
  constexpr size_t kBytes = size_t{1} << 20;
  constexpr size_t kPage = 4096;
  const Fd file(open(swap.looked_at.c_str(), O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600));
  const auto memory =
      std::unique_ptr<void, decltype(&std::free)>(std::aligned_alloc(kPage, kBytes), &std::free);
  if (!file.ok() || memory == nullptr) {
    swap.not_permitted = errno == EACCES;
    swap.direct_error = error_text();
    return;
  }
  std::memset(memory.get(), 0x5a, kBytes);
  if (pwrite(file.get(), memory.get(), kBytes, 0) != static_cast<ssize_t>(kBytes)) {
    swap.direct_error = error_text();
    return;
  }
  using Clock = std::chrono::steady_clock;
  std::vector<uint64_t> times_us;
  const auto end = Clock::now() + std::chrono::seconds(1);
  for (size_t i = 0; i < 32 && Clock::now() < end; ++i) {
    const off_t at = static_cast<off_t>((i * 37 % (kBytes / kPage)) * kPage);
    const auto before = Clock::now();
    if (pread(file.get(), memory.get(), kPage, at) != static_cast<ssize_t>(kPage)) return;
    times_us.push_back(static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - before).count()));
  }
  std::ranges::sort(times_us);
  if (!times_us.empty()) swap.read_us = times_us[times_us.size() / 2];
}

}  // namespace

KernelFacts probe_kernel() {
  KernelFacts kernel;
  utsname name{};
  if (uname(&name) == 0) kernel.release = name.release;
  std::sscanf(kernel.release.c_str(), "%d.%d", &kernel.major, &kernel.minor);
  kernel.root = geteuid() == 0;
  probe_userfaultfd(kernel);
  kernel.sealing_error = sealing_error();
  // Of a process beside ours with our rights, as a QEMU is to the daemon.
  const pid_t other = getppid() > 0 ? getppid() : getpid();
  const Fd pagemap(open(fmt::format("/proc/{}/pagemap", other).c_str(), O_RDONLY | O_CLOEXEC));
  if (!pagemap.ok()) kernel.pagemap_error = "/proc/PID/pagemap: " + error_text();
  kernel.clock_source =
      first_word_of("/sys/devices/system/clocksource/clocksource0/current_clocksource");
  return kernel;
}

MemoryFacts probe_memory() {
  MemoryFacts memory;
  memory.bytes =
      static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  memory.mappings_max = number_in("/proc/sys/vm/max_map_count");
  memory.overcommit = static_cast<int>(number_in("/proc/sys/vm/overcommit_memory"));
  memory.shmem_huge_pages = chosen_word("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
  memory.ksm = static_cast<int>(number_in("/sys/kernel/mm/ksm/run"));
  memory.zswap = first_word_of("/sys/module/zswap/parameters/enabled") == "Y";
  memory.swaps = host_swaps();
  memory.pressure_percent = memory_pressure();
  return memory;
}

SwapDirFacts probe_swap_dir(const std::string& path) {
  SwapDirFacts swap;
  swap.path = path;
  std::error_code problem;
  std::filesystem::path at = std::filesystem::absolute(path, problem);
  while (!std::filesystem::exists(at, problem) && at.has_relative_path()) {
    swap.not_permitted |= problem == std::errc::permission_denied;
    at = at.parent_path();
  }
  swap.looked_at = at.string();
  if (swap.not_permitted) return swap;
  const Fd directory(open(swap.looked_at.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct statfs info {};
  struct stat where {};
  if (!directory.ok() || fstatfs(directory.get(), &info) != 0 ||
      fstat(directory.get(), &where) != 0) {
    swap.not_permitted = errno == EACCES;
    swap.error = error_text();
    return swap;
  }
  swap.in_memory = info.f_type == TMPFS_MAGIC || info.f_type == RAMFS_MAGIC;
  swap.free_bytes = static_cast<uint64_t>(info.f_bavail) * static_cast<uint64_t>(info.f_bsize);
  swap.rotates = rotates(where.st_dev);
  if (!swap.in_memory) probe_disk(swap);
  return swap;
}

}  // namespace ballast::doctor
