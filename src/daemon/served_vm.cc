#include "daemon/served_vm.h"

#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "base/random.h"

namespace ballast::daemon {

namespace {

constexpr size_t kFaultBatch = 32;
// While a fault or the host waits for memory the worker looks again after this long.
constexpr int kSoonMs = 1;

uint64_t random_seed() {
  uint64_t seed = 0;
  BALLAST_CHECK(getentropy(&seed, sizeof(seed)) == 0);
  return seed;
}

}  // namespace

ServedVm::ServedVm(Parts parts, EventLog& log, OnLeft on_left, const Options& options)
    : spec_(std::move(parts.spec)),
      hand_off_(parts.attachment.hand_off),
      ram_ids_(parts.attachment.ram_ids),
      log_(log),
      on_left_(std::move(on_left)),
      swap_(std::move(parts.swap)),
      store_(std::move(parts.store)),
      process_(std::move(*parts.process)),
      bell_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      waiting_(process_.pid(), options.spin_us * kMicrosecond, std::move(*parts.hold)) {}

Result<std::unique_ptr<ServedVm>> ServedVm::create(Parts parts, Kind kind, engine::Ledger& ledger,
                                                   const Options& options, EventLog& log,
                                                   OnLeft on_left) {
  linux_machine::Attachment attachment = std::move(parts.attachment);
  parts.attachment.hand_off = attachment.hand_off;
  parts.attachment.ram_ids = attachment.ram_ids;
  engine::ShareGroup* const share = parts.share;
  linux_machine::LinuxSharePool* const share_pool = parts.share_pool;
  const uint64_t mappings_max = parts.share_mappings_max;
  std::unique_ptr<ServedVm> vm(new ServedVm(std::move(parts), log, std::move(on_left), options));
  const auto zap = [raw = vm.get()](std::span<const AgentRange> ranges) {
    return raw->zap(ranges);
  };
  linux_machine::RemapQueue::Senders remap;
  if (share != nullptr) {
    remap.share = [raw = vm.get()](auto ranges) {
      return raw->agent_ != nullptr && raw->agent_->send_share(ranges);
    };
    remap.home = [raw = vm.get()](auto ranges) {
      return raw->agent_ != nullptr && raw->agent_->send_home(ranges);
    };
  }
  BALLAST_TRY(vm->memory_, linux_machine::UffdMemory::create(
                               attachment.memory_parts(vm->pid(), zap, std::move(remap))));
  if (!vm->bell_.valid()) return system_error("eventfd for a VM's worker");
  if (share != nullptr) {
    vm->share_ = share;
    vm->share_pool_ = share_pool;
    vm->share_member_ = share->enter(vm->memory_->page_count(), [raw = vm.get()] { raw->ring(); });
  }
  const engine::PagerParts pager_parts{
      *vm->memory_,  *vm->swap_, *vm->store_,       *vm,         vm->clock_, ledger, options,
      random_seed(), share,      vm->share_member_, mappings_max};
  if (kind == Kind::kNew) {
    BALLAST_TRY(vm->pager_, engine::Pager::create(vm->spec_, pager_parts));
  } else {
    BALLAST_TRY(vm->pager_, engine::Pager::take_over(vm->spec_, pager_parts));
  }
  return vm;
}

ServedVm::~ServedVm() {
  stop();
  pager_.reset();
  if (share_ != nullptr) share_->leave(share_member_);
}

void ServedVm::start() {
  thread_ = std::thread([this] { run(); });
}

void ServedVm::stop() {
  stopping_.store(true);
  ring();
  if (thread_.joinable()) thread_.join();
}

void ServedVm::post(std::function<void(ServedVm&)> work) {
  {
    const std::lock_guard hold(posted_lock_);
    posted_.push_back(std::move(work));
  }
  ring();
}

void ServedVm::ring() {
  const uint64_t one = 1;
  // A full counter means that the bell rings already.
  [[maybe_unused]] const ssize_t written = write(bell_.get(), &one, sizeof(one));
}

Status ServedVm::grow_swap(uint64_t bytes) {
  BALLAST_TRY_STATUS(swap_->extend(bytes));
  post([bytes](ServedVm& vm) {
    vm.swap_->take_extension(bytes);
    vm.pager_->swap_grew();
  });
  return Done{};
}

void ServedVm::note_paging() {
  const VmReport report = pager_->report();
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto look = [&](Paged& paged, uint64_t pages) {
    if (pages == paged.pages) return;
    paged.pages = pages;
    paged.unix_ms =
        static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
  };
  look(zipped_, report.zips);
  look(swapped_out_, report.swap_outs);
}

void ServedVm::add_to(VmReport& report) const {
  report.last_zip_unix_ms = zipped_.unix_ms;
  report.last_swap_out_unix_ms = swapped_out_.unix_ms;
  report.pid = process_.pid();
  const char* why = frozen_because_.load();
  report.state = why != nullptr ? "paused" : "running";
  if (why != nullptr) report.pause_reason = why;
  report.fault_p50_ns = service_.quantile(500);
  report.fault_p99_ns = service_.quantile(990);
}

void ServedVm::freeze(const char* why) {
  process_.freeze();
  frozen_because_.store(why);
  note_running();
}

void ServedVm::set_paused(bool paused) {
  paused_ = paused;
  note_running();
}

void ServedVm::note_running() { runs_.set_running(!frozen() && !paused_, clock_.now()); }

void ServedVm::resume() {
  const uint32_t retried = pager_->retry_lost();
  frozen_because_.store(nullptr);
  note_running();
  event(machine::Severity::kInfo, "vm.resumed",
        fmt::format("resumed; {} lost pages are tried again", retried));
  process_.thaw();
}

void ServedVm::event(machine::Severity severity, std::string kind, std::string message) {
  log_.add(severity, spec_.name, std::move(kind), std::move(message));
}

bool ServedVm::zap(std::span<const AgentRange> ranges) {
  return agent_ != nullptr && agent_->send_sample(ranges);
}

void ServedVm::hang_up(std::string why) {
  agent_.reset();
  if (!why.empty()) event(machine::Severity::kWarning, "agent.hung-up", std::move(why));
}

void ServedVm::rejoin(std::unique_ptr<linux_machine::AgentLink> agent) {
  agent_ = std::move(agent);
  event(machine::Severity::kInfo, "agent.rejoined", "the agent connected again");
  memory_->lose_remaps();
  memory_->begin_discards();
  pager_->take_discards();
}

void ServedVm::run() {
  prctl(PR_SET_NAME, fmt::format("vm/{}", spec_.name).substr(0, 15).c_str());
  while (!stopping_.load(std::memory_order_relaxed) && !left_) {
    bool busy = serve_faults();
    busy |= pager_->poll_io();
    busy |= run_posted();
    if (pager_->turn()) {
      busy = true;
      waiting_.let_loose();
    }
    if (pager_->gone()) leave(memory_->last_error().c_str());
    const bool all_sent = memory_->flush_remaps();
    if (!busy && !left_ && !poll_for_more()) wait(!all_sent || pager_->has_waiting_faults());
  }
}

bool ServedVm::serve_faults() {
  std::array<machine::Fault, kFaultBatch> faults;
  const size_t count = memory_->read_faults(faults);
  if (count == 0) return false;
  const Nanoseconds start = clock_.now();
  pager_->handle(std::span(faults).first(count));
  const Nanoseconds end = clock_.now();
  service_.record((end - start) / count, count);
  waiting_.served(start, end, memory_->last_fault_thread());
  return true;
}

bool ServedVm::poll_for_more() {
  const bool reading = pager_->is_reading();
  const Nanoseconds until = waiting_.poll_until(reading);
  bool found = false;
  while (!found && clock_.now() < until) found = pager_->poll_io() || serve_faults();
  waiting_.polled(reading, found);
  return found;
}

bool ServedVm::run_posted() {
  std::vector<std::function<void(ServedVm&)>> work;
  {
    const std::lock_guard hold(posted_lock_);
    if (posted_.empty()) return false;
    work.swap(posted_);
  }
  for (auto& item : work) item(*this);
  return true;
}

// How long the worker may sleep when nobody calls it. While the VM is stopped nothing becomes due,
// and the worker looks at the clock a few times a minute for nothing.
int ServedVm::idle_ms() const {
  const Nanoseconds due = pager_->next_due();
  if (due == engine::ActiveSampler::kNever) return -1;
  const Nanoseconds now = run_time();
  return due <= now ? 0 : static_cast<int>((due - now) / kMillisecond + 1);
}

void ServedVm::wait(bool soon) {
  std::array<pollfd, 5> fds = {pollfd{memory_->fault_fd(), POLLIN, 0},
                               pollfd{bell_.get(), POLLIN, 0}, pollfd{swap_->wait_fd(), POLLIN, 0},
                               pollfd{process_.fd(), POLLIN, 0},
                               pollfd{agent_ ? agent_->fd() : -1, POLLIN, 0}};
  const int idle = waiting_.holds() ? FaultWait::kHoldIdleMs : idle_ms();
  const int ready = poll(fds.data(), fds.size(), soon ? kSoonMs : idle);
  if (ready == 0) waiting_.let_loose();
  if (ready <= 0) return;
  if (fds[1].revents != 0) {
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = read(bell_.get(), &count, sizeof(count));
  }
  if (fds[3].revents != 0) {
    pager_->note_death();
    return leave("QEMU ended");
  }
  if ((fds[0].revents & (POLLERR | POLLNVAL)) != 0)
    return leave("its userfaultfd was made unusable");
  if (fds[4].revents != 0) read_agent();
}

void ServedVm::read_agent() {
  const auto received = agent_->receive();
  if (!received)
    return hang_up("the agent sent something that is no message; hung up: " +
                   received.error().message);
  if (received->hand_off_arrived) {
    // All RAM was announced before the worker started; more than the VM was promised is not served.
    (void)agent_->send_refuse("the VM's memory is complete already");
  }
  memory_->take_remapped(received->remapped);
  if (received->discards) {
    memory_->begin_discards();
    pager_->take_discards();
  }
  // If QEMU died its pidfd tells; else the agent connects again.
  if (received->closed) hang_up("");
}

void ServedVm::leave(const char* why) {
  if (left_) return;
  left_ = true;
  event(machine::Severity::kInfo, "vm.left",
        fmt::format("gone ({})", *why != '\0' ? why : "no reason given"));
  on_left_(spec_.name);
}

}  // namespace ballast::daemon
