#include "machine/linux/test_guest.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <cstring>

namespace ballast::linux_machine {

namespace {

UniqueFd make_memfd(const char* name, uint64_t bytes) {
  UniqueFd fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) fd.reset();
  return fd;
}

}  // namespace

UniqueFd open_userfaultfd(std::string& why_not) {
  UniqueFd uffd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_MISSING_SHMEM |
                 UFFD_FEATURE_THREAD_ID | UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
  if (!uffd.valid()) {
    why_not = system_error("userfaultfd (needs root here)").message;
  } else if (::ioctl(uffd.get(), UFFDIO_API, &api) != 0) {
    why_not =
        system_error("userfaultfd write protection of shared memory (needs Linux 5.19)").message;
    uffd.reset();
  }
  return uffd;
}

UniqueFd duplicate(int fd) { return UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 0)); }

std::unique_ptr<TestGuest> TestGuest::make(const std::vector<uint32_t>& region_pages,
                                           std::string& why_not) {
  std::unique_ptr<TestGuest> guest(new TestGuest);
  guest->uffd_ = open_userfaultfd(why_not);
  if (!guest->uffd_.valid()) return nullptr;
  for (const uint32_t pages : region_pages) {
    Piece piece;
    const uint64_t bytes = pages_to_bytes(pages);
    piece.file = make_memfd("guest", bytes);
    piece.pages = pages;
    void* address = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, piece.file.get(), 0);
    BALLAST_CHECK(address != MAP_FAILED);
    piece.address = static_cast<std::byte*>(address);
    uffdio_register request{};
    request.range = {reinterpret_cast<uint64_t>(address), bytes};
    request.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP;
    BALLAST_CHECK(::ioctl(guest->uffd_.get(), UFFDIO_REGISTER, &request) == 0);
    guest->pieces_.push_back(std::move(piece));
  }
  const uint64_t words = (guest->page_count() + 63) / 64;
  guest->discards_ = make_memfd("discards", kDiscardHeaderBytes + words * 8);
  return guest;
}

TestGuest::~TestGuest() {
  for (const Piece& piece : pieces_) ::munmap(piece.address, pages_to_bytes(piece.pages));
}

std::byte* TestGuest::page(uint32_t index) const {
  for (const Piece& piece : pieces_) {
    if (index < piece.pages) return piece.address + pages_to_bytes(index);
    index -= piece.pages;
  }
  return nullptr;
}

uint32_t TestGuest::page_count() const {
  uint32_t pages = 0;
  for (const Piece& piece : pieces_) pages += piece.pages;
  return pages;
}

std::unique_ptr<UffdMemory> TestGuest::open_memory(RemapQueue::Senders remap) const {
  UffdMemory::Parts parts;
  parts.uffd = duplicate(uffd_.get());
  parts.pages = page_count();
  for (const Piece& piece : pieces_) {
    parts.ram_files.push_back(duplicate(piece.file.get()));
    parts.regions.push_back({reinterpret_cast<uint64_t>(piece.address), pages_to_bytes(piece.pages),
                             parts.ram_files.back().get(), 0});
  }
  parts.discards = duplicate(discards_.get());
  parts.pagemap.reset(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  parts.zap = [](std::span<const AgentRange> ranges) {
    for (const AgentRange& range : ranges) {
      ::madvise(reinterpret_cast<void*>(range.address), range.bytes, MADV_DONTNEED);
    }
    return true;
  };
  parts.remap = std::move(remap);
  auto memory = UffdMemory::create(std::move(parts));
  return std::move(memory).value();
}

std::string TestGuest::hand_off_text() const {
  std::string text = "[";
  for (size_t i = 0; i < pieces_.size(); ++i) {
    const uint64_t bytes = pages_to_bytes(pieces_[i].pages);
    text += fmt::format(
        R"({}{{"base_host_virt_addr":{},"size":{},"offset":0,"page_size":4096,"page_size_kib":4096,"ballast":{{"ram_fd":{})",
        i == 0 ? "" : ",", reinterpret_cast<uint64_t>(pieces_[i].address), bytes, i + 1);
    if (i == 0) {
      text += fmt::format(
          R"(,"version":1,"name":"test","uuid":"","memory_bytes":{},"min_bytes":0,"qmp":"","kept":[])",
          pages_to_bytes(page_count()));
    }
    text += "}}";
  }
  return text + "]";
}

std::vector<int> TestGuest::hand_off_descriptors() const {
  std::vector<int> all{uffd_.get()};
  for (const Piece& piece : pieces_) all.push_back(piece.file.get());
  all.push_back(discards_.get());
  return all;
}

}  // namespace ballast::linux_machine
