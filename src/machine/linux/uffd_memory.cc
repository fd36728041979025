#include "machine/linux/uffd_memory.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace ballast::linux_machine {

using machine::Fault;
using machine::FaultKind;
using machine::InstallResult;
using machine::InstallStop;
using machine::MemoryResult;
using machine::Sealing;

namespace {

// Pages per pread of pagemap: 32 KiB of entries, one call for 16 MiB of guest.
constexpr uint32_t kPagemapChunk = 4096;
constexpr uint64_t kPagemapPresent = uint64_t{1} << 63;
// The kernel answers EAGAIN while the VM's address space is being changed, which lasts
// microseconds. A VM that holds this state for longer is treated as dead rather than let it hold
// the worker.
constexpr int kRetriesMax = 1000;
// A thread of the VM that lost its CPU in the middle of such a change needs more than a yield.
constexpr int kYieldsMax = 100;
constexpr useconds_t kPauseUs = 100;
constexpr size_t kFaultsPerRead = 64;

uint64_t bytes_of(uint32_t pages) { return pages_to_bytes(pages); }

void pause_before(int retry) {
  if (retry < kYieldsMax) {
    ::sched_yield();
  } else {
    ::usleep(kPauseUs);
  }
}

}  // namespace

Result<std::unique_ptr<UffdMemory>> UffdMemory::create(Parts parts) {
  const uint64_t words = (uint64_t{parts.pages} + 63) / 64;
  const size_t bitmap_bytes = kDiscardHeaderBytes + words * sizeof(uint64_t);
  struct stat info {};
  if (::fstat(parts.discards.get(), &info) != 0) return system_error("discard bitmap");
  if (static_cast<uint64_t>(info.st_size) < bitmap_bytes) {
    return Error{"the discard bitmap has " + std::to_string(info.st_size) + " bytes and needs " +
                 std::to_string(bitmap_bytes)};
  }
  BALLAST_TRY(Mapping mapping, Mapping::map(parts.discards.get(), bitmap_bytes, "discard bitmap"));
  std::vector<Region> regions = std::move(parts.regions);
  std::unique_ptr<UffdMemory> memory(new UffdMemory(std::move(parts)));
  memory->discards_ = std::move(mapping);
  for (const Region& region : regions) memory->add_region(region, UniqueFd());
  return memory;
}

UffdMemory::UffdMemory(Parts parts)
    : uffd_(std::move(parts.uffd)),
      pages_(parts.pages),
      ram_files_(std::move(parts.ram_files)),
      discards_fd_(std::move(parts.discards)),
      pagemap_(std::move(parts.pagemap)),
      zap_(std::move(parts.zap)),
      remaps_(std::move(parts.remap)),
      pagemap_buffer_(kPagemapChunk) {}

void UffdMemory::add_region(const Region& region, UniqueFd ram_file) {
  BALLAST_CHECK(region.bytes % kPageBytes == 0 && region.address % kPageBytes == 0 &&
                region.file_offset % kPageBytes == 0);
  Placed placed;
  placed.region = region;
  placed.first = regions_.empty() ? 0 : regions_.back().end();
  placed.pages = static_cast<uint32_t>(pages_floor(region.bytes));
  BALLAST_CHECK_THAT(uint64_t{placed.first} + placed.pages <= pages_, "{} + {} pages of {}",
                     placed.first, placed.pages, pages_);
  regions_.push_back(placed);
  if (ram_file.valid()) ram_files_.push_back(std::move(ram_file));
}

// Takes the front part of `rest` that lies in one region; false when nothing backed is left.
bool UffdMemory::next_piece(PageRun& rest, Piece& piece) const {
  if (rest.count == 0) return false;
  const uint32_t page = rest.first.raw();
  for (const Placed& placed : regions_) {  // at most kAgentRegionsMax, mostly one or two
    if (page < placed.first || page >= placed.end()) continue;
    const uint64_t inside = bytes_of(page - placed.first);
    piece = {placed.region.address + inside, placed.region.file_offset + inside,
             placed.region.ram_fd, page, std::min(rest.count, placed.end() - page)};
    rest = {rest.first + piece.pages, rest.count - piece.pages};
    return true;
  }
  return false;
}

MemoryResult UffdMemory::gone(const char* call, int error_number) {
  last_error_ = std::string(call) + ": " + std::strerror(error_number);
  return MemoryResult::kGone;
}

MemoryResult UffdMemory::write_protect(PageRun run, uint64_t mode) {
  Piece piece;
  while (next_piece(run, piece)) {
    uffdio_writeprotect request{};
    request.range = {piece.address, bytes_of(piece.pages)};
    request.mode = mode;
    int tries = 0;
    while (::ioctl(uffd_.get(), UFFDIO_WRITEPROTECT, &request) != 0) {
      // A page that the agent maps anew, because its guest gives it up, is not registered for a
      // moment; a write to it that was on its way may still ask for this.
      const bool passes = errno == EAGAIN || errno == EINTR || (errno == ENOENT && can_share());
      if (!passes || ++tries == kRetriesMax) return gone("UFFDIO_WRITEPROTECT", errno);
      pause_before(tries);
    }
  }
  return MemoryResult::kOk;
}

MemoryResult UffdMemory::seal(PageRun run) {
  return write_protect(run, UFFDIO_WRITEPROTECT_MODE_WP);
}

MemoryResult UffdMemory::unseal(PageRun run) { return write_protect(run, 0); }

MemoryResult UffdMemory::read(PageRun run, std::span<std::byte> into) {
  BALLAST_CHECK(into.size() == bytes_of(run.count));
  Piece piece;
  while (next_piece(run, piece)) {
    uint64_t offset = piece.file_offset;
    uint64_t left = bytes_of(piece.pages);
    while (left > 0) {
      const ssize_t got = ::pread(piece.ram_fd, into.data(), left, static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return gone("read of the RAM file", errno);
      if (got == 0) return gone("the RAM file was truncated", ENODATA);
      into = into.subspan(static_cast<size_t>(got));
      offset += static_cast<uint64_t>(got);
      left -= static_cast<uint64_t>(got);
    }
  }
  std::ranges::fill(into, std::byte{0});  // regions that were not announced yet
  return MemoryResult::kOk;
}

MemoryResult UffdMemory::discard(PageRun run) {
  Piece piece;
  while (next_piece(run, piece)) {
    if (punch(piece) == MemoryResult::kGone) return MemoryResult::kGone;
  }
  return MemoryResult::kOk;
}

// A punch of less than 2 MiB inside a huge page can leave the page in the file, zeroed, when
// somebody holds a reference to it at that moment. A reader would then get zeros without an event,
// so the hole is verified and the punch repeated.
MemoryResult UffdMemory::punch(const Piece& piece) {
  const auto offset = static_cast<off_t>(piece.file_offset);
  const auto bytes = static_cast<off_t>(bytes_of(piece.pages));
  for (int tries = 0; tries < kRetriesMax; ++tries) {
    if (::fallocate(piece.ram_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes) != 0) {
      if (errno == EINTR) continue;
      return gone("punch of the RAM file", errno);
    }
    const off_t data = ::lseek(piece.ram_fd, offset, SEEK_DATA);
    if (data >= offset + bytes || (data < 0 && errno == ENXIO)) return MemoryResult::kOk;
    if (data < 0) return gone("lseek of the RAM file", errno);
    ::sched_yield();
  }
  return gone("punched pages stay in the RAM file", EBUSY);
}

InstallStop UffdMemory::stop_for(const char* call, int error_number) {
  switch (error_number) {
    case EEXIST:
      return InstallStop::kAlreadyPresent;
    case EAGAIN:
    case EINTR:
    case ENOMEM:  // the VM's control group or tmpfs is at its limit: not for ever
      return InstallStop::kRetry;
    default:  // ESRCH: exited; ENOENT: unmapped; anything else: not the memory that was handed over
      gone(call, error_number);
      return InstallStop::kGone;
  }
}

// `install(piece, pages before it)` fills one piece.
template <typename Install>
InstallResult UffdMemory::install_pieces(PageRun run, const Install& install) {
  InstallResult total;
  Piece piece;
  while (next_piece(run, piece)) {
    const InstallResult part = install(piece, total.installed);
    total.installed += part.installed;
    total.stop = part.stop;
    if (part.stop != InstallStop::kDone) return total;
  }
  if (run.count > 0) total.stop = InstallStop::kRetry;  // region not announced yet
  return total;
}

InstallResult UffdMemory::copy_piece(uint64_t to, const std::byte* from, uint32_t pages,
                                     uint64_t mode) {
  InstallResult result;
  while (result.installed < pages) {
    const uint64_t done = bytes_of(result.installed);
    uffdio_copy request{};
    request.dst = to + done;
    request.src = reinterpret_cast<uint64_t>(from) + done;
    request.len = bytes_of(pages) - done;
    request.mode = mode;
    if (::ioctl(uffd_.get(), UFFDIO_COPY, &request) == 0) {
      result.installed = pages;
      break;
    }
    const int error_number = errno;
    // EAGAIN with a positive count is a partial success: what stopped it shows when the rest is
    // tried.
    if (request.copy > 0) {
      result.installed += static_cast<uint32_t>(pages_floor(static_cast<uint64_t>(request.copy)));
      continue;
    }
    // A call must lie in one VMA, and the VM may have split its own with madvise.
    if (error_number == ENOENT && request.len > kPageBytes) {
      const InstallResult one = copy_piece(request.dst, from + done, 1, mode);
      result.installed += one.installed;
      if (one.stop == InstallStop::kDone) continue;
      result.stop = one.stop;
      return result;
    }
    result.stop = stop_for("UFFDIO_COPY", error_number);
    return result;
  }
  return result;
}

InstallResult UffdMemory::install(PageRun run, std::span<const std::byte> contents,
                                  Sealing sealing) {
  BALLAST_CHECK(contents.size() == bytes_of(run.count));
  const uint64_t mode = sealing == Sealing::kSealed ? UFFDIO_COPY_MODE_WP : 0;
  return install_pieces(run, [&](const Piece& piece, uint32_t before) {
    return copy_piece(piece.address, contents.data() + bytes_of(before), piece.pages, mode);
  });
}

InstallResult UffdMemory::zero_piece(uint64_t to, uint32_t pages) {
  InstallResult result;
  while (result.installed < pages) {
    uffdio_zeropage request{};
    request.range = {to + bytes_of(result.installed), bytes_of(pages - result.installed)};
    if (::ioctl(uffd_.get(), UFFDIO_ZEROPAGE, &request) == 0) {
      result.installed = pages;
      break;
    }
    const int error_number = errno;
    if (request.zeropage > 0) {
      result.installed +=
          static_cast<uint32_t>(pages_floor(static_cast<uint64_t>(request.zeropage)));
      continue;
    }
    if (error_number == ENOENT && request.range.len > kPageBytes) {
      const InstallResult one = zero_piece(request.range.start, 1);
      result.installed += one.installed;
      if (one.stop == InstallStop::kDone) continue;
      result.stop = one.stop;
      return result;
    }
    result.stop = stop_for("UFFDIO_ZEROPAGE", error_number);
    return result;
  }
  return result;
}

InstallResult UffdMemory::install_zero(PageRun run) {
  return install_pieces(
      run, [&](const Piece& piece, uint32_t) { return zero_piece(piece.address, piece.pages); });
}

MemoryResult UffdMemory::wake(PageRun run) {
  Piece piece;
  while (next_piece(run, piece)) {
    uffdio_range range{piece.address, bytes_of(piece.pages)};
    if (::ioctl(uffd_.get(), UFFDIO_WAKE, &range) != 0) return gone("UFFDIO_WAKE", errno);
  }
  return MemoryResult::kOk;
}

// The file knows, page by page: SEEK_DATA counts a frame as data only when it is filled, so frames
// that fallocate reserved and nobody wrote are holes here. (Touching such a frame raises no event;
// the agent keeps QEMU from preallocating for this reason.)
MemoryResult UffdMemory::find_present(PageRun run, std::vector<PageRun>& present) {
  const uint32_t run_first = run.first.raw();
  Piece piece;
  while (next_piece(run, piece)) {
    const auto start = static_cast<off_t>(piece.file_offset);
    const auto end = start + static_cast<off_t>(bytes_of(piece.pages));
    off_t at = start;
    while (at < end) {
      const off_t data = ::lseek(piece.ram_fd, at, SEEK_DATA);
      if (data < 0 && errno == ENXIO) break;
      if (data < 0) return gone("lseek of the RAM file", errno);
      if (data >= end) break;
      off_t hole = ::lseek(piece.ram_fd, data, SEEK_HOLE);
      if (hole < 0 && errno == ENXIO) break;  // punched meanwhile
      if (hole < 0) return gone("lseek of the RAM file", errno);
      hole = std::min(hole, end);
      if (hole <= data) {  // punched between the two calls
        at = data + static_cast<off_t>(kPageBytes);
        continue;
      }
      const auto first =
          piece.first + static_cast<uint32_t>(pages_floor(static_cast<uint64_t>(data - start)));
      const auto count = static_cast<uint32_t>(pages_floor(static_cast<uint64_t>(hole - data)));
      if (!present.empty() && present.back().end() == PageIndex(first) && first > run_first) {
        present.back().count += count;
      } else {
        present.push_back({PageIndex(first), count});
      }
      at = hole;
    }
  }
  return MemoryResult::kOk;
}

std::span<std::atomic<uint64_t>> UffdMemory::discard_bits() {
  static_assert(sizeof(std::atomic<uint64_t>) == sizeof(uint64_t) &&
                std::atomic<uint64_t>::is_always_lock_free);
  const auto words = discards_.bytes().subspan(kDiscardHeaderBytes);
  return {reinterpret_cast<std::atomic<uint64_t>*>(words.data()), words.size() / sizeof(uint64_t)};
}

void UffdMemory::begin_discards() {
  auto* header = reinterpret_cast<DiscardHeader*>(discards_.bytes().data());
  std::atomic_ref<uint32_t>(header->pending).store(0, std::memory_order_seq_cst);
}

bool UffdMemory::start_sample(std::span<const PageRun> runs) {
  if (!can_sample()) return false;
  const uint64_t dropped_before = dropped_samples_;
  std::array<AgentRange, kAgentSampleRangesMax> ranges;
  size_t count = 0;
  for (PageRun run : runs) {
    Piece piece;
    while (next_piece(run, piece)) {
      ranges[count++] = {piece.address, bytes_of(piece.pages)};
      if (count == ranges.size()) {
        if (!zap_(ranges)) ++dropped_samples_;
        count = 0;
      }
    }
  }
  if (count > 0 && !zap_(std::span(ranges).first(count))) ++dropped_samples_;
  return dropped_samples_ == dropped_before;
}

// One entry per page from `address`. False: the VM died, and last_error() says so.
bool UffdMemory::read_pagemap(uint64_t address, std::span<uint64_t> entries) {
  ssize_t got = -1;
  do {
    got = ::pread(pagemap_.get(), entries.data(), entries.size_bytes(),
                  static_cast<off_t>(pages_floor(address) * sizeof(uint64_t)));
  } while (got < 0 && errno == EINTR);
  if (got >= 0 && static_cast<size_t>(got) == entries.size_bytes()) return true;
  gone(got < 0 ? "read of pagemap" : "pagemap ended", got < 0 ? errno : ESRCH);
  return false;
}

MemoryResult UffdMemory::touched(PageRun run, std::span<uint64_t> bits) {
  BALLAST_CHECK(bits.size() * 64 >= run.count);
  std::ranges::fill(bits, ~uint64_t{0});
  if (!pagemap_.valid()) return MemoryResult::kOk;
  const uint32_t run_first = run.first.raw();
  Piece piece;
  while (next_piece(run, piece)) {
    for (uint32_t done = 0; done < piece.pages;) {
      const uint32_t chunk = std::min(piece.pages - done, kPagemapChunk);
      const auto entries = std::span(pagemap_buffer_).first(chunk);
      if (!read_pagemap(piece.address + bytes_of(done), entries)) return MemoryResult::kGone;
      for (uint32_t i = 0; i < chunk; ++i) {
        if (pagemap_buffer_[i] & kPagemapPresent) continue;
        const uint32_t bit = piece.first - run_first + done + i;
        bits[bit / 64] &= ~(uint64_t{1} << (bit % 64));
      }
      done += chunk;
    }
  }
  return MemoryResult::kOk;
}

bool UffdMemory::page_of(uint64_t address, PageIndex& page) const {
  for (const Placed& placed : regions_) {
    if (address < placed.region.address || address - placed.region.address >= placed.region.bytes) {
      continue;
    }
    page = PageIndex(placed.first +
                     static_cast<uint32_t>(pages_floor(address - placed.region.address)));
    return true;
  }
  return false;
}

size_t UffdMemory::read_faults(std::span<Fault> faults) {
  std::array<uffd_msg, kFaultsPerRead> messages;
  const size_t room = std::min(faults.size(), messages.size());
  if (room == 0) return 0;
  iovec vector{messages.data(), room * sizeof(uffd_msg)};
  ssize_t got = -1;
  if (nowait_reads_) {
    got = ::preadv2(uffd_.get(), &vector, 1, -1, RWF_NOWAIT);
    if (got < 0 && (errno == EOPNOTSUPP || errno == ESPIPE || errno == EINVAL))
      nowait_reads_ = false;
  }
  // Kernels before 6.11 know O_NONBLOCK only.
  if (!nowait_reads_) got = ::read(uffd_.get(), vector.iov_base, vector.iov_len);
  if (got <= 0) return 0;
  size_t taken = 0;
  for (const uffd_msg& message :
       std::span(messages).first(static_cast<size_t>(got) / sizeof(uffd_msg))) {
    if (message.event != UFFD_EVENT_PAGEFAULT) continue;
    const auto& fault = message.arg.pagefault;
    PageIndex page;
    if (!page_of(fault.address, page)) {
      ++unknown_faults_;
      continue;
    }
    last_fault_thread_ = fault.feat.ptid;
    faults[taken++] = {
        page,
        (fault.flags & UFFD_PAGEFAULT_FLAG_WP) != 0 ? FaultKind::kSealed : FaultKind::kMissing,
        (fault.flags & UFFD_PAGEFAULT_FLAG_WRITE) != 0};
  }
  return taken;
}

}  // namespace ballast::linux_machine
