#include "machine/linux/swap_file.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <cstring>

namespace ballast::linux_machine {

using machine::IoDone;
using machine::IoStatus;
using machine::IoToken;

namespace {

// EINTR, EAGAIN and short transfers are tried again; a device that keeps answering so has failed.
constexpr uint16_t kRetriesMax = 64;

IoStatus status_for(int error_number) {
  return error_number == ENOSPC || error_number == EDQUOT ? IoStatus::kNoSpace : IoStatus::kFailed;
}

}  // namespace

SwapFile::SwapFile(UniqueFd file, uint64_t bytes, bool direct)
    : file_(std::move(file)), slots_(static_cast<uint32_t>(pages_floor(bytes))), direct_(direct) {
  free_.reserve(kDepth);
  for (uint32_t i = kDepth; i > 0; --i) free_.push_back(i - 1);
}

void SwapFile::start_ring(SwapFileChoices choices) {
  int error_number = ENOSYS;
  if (choices.use_ring) {
    // Completions are posted at the worker's next system call instead of interrupting it: it makes
    // one all the time.
    int result =
        io_uring_queue_init(kDepth, &ring_, IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG);
    if (result == -EINVAL) result = io_uring_queue_init(kDepth, &ring_, 0);
    has_ring_ = result == 0;
    error_number = -result;
  }
  if (has_ring_) return;
  notices_.push_back(std::string("io_uring is not available (") + std::strerror(error_number) +
                     "): swap I/O is synchronous and slower");
  wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

SwapFile::~SwapFile() {
  if (!has_ring_) return;
  backlog_.clear();
  std::array<IoDone, kDepth> done;
  while (busy_ > 0) {
    if (poll(done) > 0) continue;
    submit();
    io_uring_cqe* completion = nullptr;
    (void)io_uring_wait_cqe(&ring_, &completion);  // EINTR and the like: the loop looks again
  }
  io_uring_queue_exit(&ring_);
}

int SwapFile::wait_fd() const { return has_ring_ ? ring_.ring_fd : wake_.get(); }

void SwapFile::write(SwapSlot first, std::span<const std::byte> bytes, IoToken token) {
  Operation operation;
  operation.token = token;
  operation.data = const_cast<std::byte*>(bytes.data());  // only ever read: is_write
  operation.offset = pages_to_bytes(first.raw());
  operation.bytes = static_cast<uint32_t>(bytes.size());
  operation.is_write = true;
  enqueue(operation);
}

void SwapFile::read(SwapSlot first, std::span<std::byte> bytes, IoToken token) {
  Operation operation;
  operation.token = token;
  operation.data = bytes.data();
  operation.offset = pages_to_bytes(first.raw());
  operation.bytes = static_cast<uint32_t>(bytes.size());
  enqueue(operation);
}

void SwapFile::enqueue(const Operation& operation) {
  BALLAST_CHECK_THAT(operation.bytes > 0 && operation.bytes % kPageBytes == 0 &&
                         reinterpret_cast<uintptr_t>(operation.data) % kPageBytes == 0,
                     "{} bytes at {}", operation.bytes, static_cast<void*>(operation.data));
  BALLAST_CHECK_THAT(operation.offset + operation.bytes <= pages_to_bytes(slots_),
                     "{} + {} bytes of {} slots", operation.offset, operation.bytes, slots_);
  if (!has_ring_ || free_.empty()) {
    backlog_.push_back(operation);
    return;
  }
  const uint32_t index = free_.back();
  free_.pop_back();
  ++busy_;
  operations_[index] = operation;
  prepare(index);
}

void SwapFile::prepare(uint32_t index) {
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  if (entry == nullptr) {
    (void)io_uring_submit(&ring_);
    entry = io_uring_get_sqe(&ring_);
  }
  // The queue has as many entries as there are operations, and each operation has at most one entry
  // in it.
  BALLAST_CHECK(entry != nullptr);
  const Operation& operation = operations_[index];
  std::byte* data = operation.data + operation.done;
  const uint32_t bytes = operation.bytes - operation.done;
  const uint64_t offset = operation.offset + operation.done;
  switch (operation.step) {
    case Step::kTransfer:
      if (operation.is_write) {
        io_uring_prep_write(entry, file_.get(), data, bytes, offset);
      } else {
        io_uring_prep_read(entry, file_.get(), data, bytes, offset);
      }
      break;
    case Step::kFlush:
      io_uring_prep_sync_file_range(
          entry, file_.get(), operation.bytes, operation.offset,
          SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
      break;
    case Step::kDrop:
      io_uring_prep_fadvise(entry, file_.get(), operation.offset,
                            static_cast<off_t>(operation.bytes), POSIX_FADV_DONTNEED);
      break;
  }
  io_uring_sqe_set_data64(entry, index);
}

bool SwapFile::advance(Operation& operation, int result, IoStatus& status) const {
  if (result == -EINTR || result == -EAGAIN) {
    status = IoStatus::kFailed;
    return ++operation.retries > kRetriesMax;
  }
  if (result < 0) {
    status = status_for(-result);
    // The drop is a courtesy to the page cache: the data itself is where it should be.
    if (operation.step == Step::kDrop) status = IoStatus::kOk;
    return true;
  }
  if (operation.step == Step::kTransfer) {
    operation.done += static_cast<uint32_t>(result);
    if (operation.done < operation.bytes) {
      // Nothing moved, or direct I/O stopped inside a block: going on there cannot work.
      const bool stuck = result == 0 || operation.done % kPageBytes != 0;
      status = IoStatus::kFailed;
      return stuck || ++operation.retries > kRetriesMax;
    }
  }
  status = IoStatus::kOk;
  if (direct_ || operation.step == Step::kDrop) return true;
  operation.step =
      operation.step == Step::kTransfer && operation.is_write ? Step::kFlush : Step::kDrop;
  return false;
}

void SwapFile::submit() {
  if (has_ring_) {
    // A failure (EAGAIN, EBUSY) leaves the entries queued; poll() and the next submit() try again.
    if (io_uring_sq_ready(&ring_) > 0) (void)io_uring_submit(&ring_);
    return;
  }
  perform_all();
}

size_t SwapFile::poll(std::span<IoDone> done) {
  size_t taken = 0;
  if (!has_ring_) {
    while (taken < done.size() && !finished_.empty()) {
      done[taken++] = finished_.front();
      finished_.pop_front();
    }
    uint64_t count = 0;
    if (finished_.empty()) (void)!::read(wake_.get(), &count, sizeof(count));
    return taken;
  }
  io_uring_cqe* completion = nullptr;
  while (taken < done.size() && io_uring_peek_cqe(&ring_, &completion) == 0) {
    const auto index = static_cast<uint32_t>(io_uring_cqe_get_data64(completion));
    const int result = completion->res;
    io_uring_cqe_seen(&ring_, completion);
    Operation& operation = operations_[index];
    IoStatus status = IoStatus::kOk;
    if (!advance(operation, result, status)) {
      prepare(index);
      continue;
    }
    done[taken++] = {operation.token, status};
    if (backlog_.empty()) {
      free_.push_back(index);
      --busy_;
    } else {
      operation = backlog_.front();
      backlog_.pop_front();
      prepare(index);
    }
  }
  submit();
  return taken;
}

// Synchronous twin of prepare(): the result as a completion would carry it.
int SwapFile::perform(const Operation& operation) const {
  std::byte* data = operation.data + operation.done;
  const size_t bytes = operation.bytes - operation.done;
  const auto offset = static_cast<off_t>(operation.offset + operation.done);
  switch (operation.step) {
    case Step::kTransfer: {
      const ssize_t moved = operation.is_write ? ::pwrite(file_.get(), data, bytes, offset)
                                               : ::pread(file_.get(), data, bytes, offset);
      return moved < 0 ? -errno : static_cast<int>(moved);
    }
    case Step::kFlush:
      return ::sync_file_range(file_.get(), offset - static_cast<off_t>(operation.done),
                               static_cast<off_t>(operation.bytes),
                               SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                                   SYNC_FILE_RANGE_WAIT_AFTER) == 0
                 ? 0
                 : -errno;
    case Step::kDrop:
      return -::posix_fadvise(file_.get(), static_cast<off_t>(operation.offset),
                              static_cast<off_t>(operation.bytes), POSIX_FADV_DONTNEED);
  }
  return -EINVAL;
}

void SwapFile::perform_all() {
  if (backlog_.empty()) return;
  for (Operation& operation : backlog_) {
    IoStatus status = IoStatus::kOk;
    while (!advance(operation, perform(operation), status)) {
    }
    finished_.push_back({operation.token, status});
  }
  backlog_.clear();
  const uint64_t one = 1;
  (void)!::write(wake_.get(), &one, sizeof(one));
}

}  // namespace ballast::linux_machine
