#include "daemon/daemon.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>
#include <thread>

#include "daemon/monitor_sockets.h"
#include "proto/run_dir.h"
#include "proto/unix_socket.h"

namespace ballast::daemon {

namespace {

using linux_machine::AgentLink;
using linux_machine::MemfdStore;
using linux_machine::SwapFile;
using linux_machine::VmProcess;

// The daemon's own code, heap and stacks, measured at 9 MB with 4 VMs.
constexpr uint64_t kOwnBytes = 10ull << 20;
// How long the monitor socket of a QEMU that was killed before it reached us may lie around.
constexpr Nanoseconds kSweepPeriod = 2 * kSecond;
// From connecting to the last region: QEMU maps its RAM within milliseconds.
constexpr Nanoseconds kArrivalPatience = 10 * kSecond;
constexpr size_t kArrivalsMax = 64;
// A daemon that was just killed may still be letting go of the lock.
constexpr int kLockTries = 100;

uint32_t pages_of(const VmSpec& spec) {
  return static_cast<uint32_t>(pages_ceil(spec.configured_bytes));
}

Result<UniqueFd> take_lock(const std::string& path) {
  UniqueFd file(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file.valid()) return system_error("lock file " + path);
  for (int attempt = 0; attempt < kLockTries; ++attempt) {
    if (flock(file.get(), LOCK_EX | LOCK_NB) == 0) {
      const std::string pid = fmt::format("{}\n", getpid());
      if (ftruncate(file.get(), 0) != 0 || pwrite(file.get(), pid.data(), pid.size(), 0) < 0) {
        return system_error("lock file " + path);
      }
      return file;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  std::array<char, 32> owner{};
  [[maybe_unused]] const ssize_t got = pread(file.get(), owner.data(), owner.size() - 1, 0);
  return Error{fmt::format(
      "another ballastd (process {}) serves this run directory: {} is locked. Stop it, or "
      "give this one another --run-dir",
      std::atoi(owner.data()), path)};
}

// Nobody but us makes files of this name here, and we unlink them at once: what is left is a
// crash's.
void remove_stale_swap_files(const std::string& directory, EventLog& log) {
  std::error_code problem;
  for (const auto& entry : std::filesystem::directory_iterator(directory, problem)) {
    if (entry.path().extension() != ".vswp") continue;
    std::filesystem::remove(entry.path(), problem);
    if (!problem) {
      log.add(machine::Severity::kWarning, "", "swap.stale-file",
              "removed the stale swap file " + entry.path().string());
    }
  }
}

void drain(int event_fd) {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = read(event_fd, &count, sizeof(count));
}

void ring(int event_fd) {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(event_fd, &one, sizeof(one));
}

}  // namespace

Daemon::Daemon(Config config)
    : config_(std::move(config)),
      log_(config_.log_level),
      saved_options_(config_.state_dir),
      saved_allocations_(config_.run_dir) {}

Daemon::~Daemon() {
  for (auto& [name, vm] : vms_) {
    vm->stop();
    host_->remove(vm->pager());
  }
  vms_.clear();
  balloons_.clear();
  if (agent_listener_.valid()) unlink(proto::agent_socket_path(config_.run_dir).c_str());
}

Result<std::unique_ptr<Daemon>> Daemon::start(const Config& config) {
  std::unique_ptr<Daemon> daemon(new Daemon(config));
  Options options = config.options;
  BALLAST_TRY_STATUS(daemon->saved_options_.load(options));
  BALLAST_TRY(daemon->host_, engine::Host::create(config.memory_bytes, kOwnBytes, options,
                                                  daemon->clock_, daemon->log_.sink()));
  daemon->members_ = std::make_unique<Members>(config.run_dir, daemon->host_->ledger());
  BALLAST_TRY_STATUS(daemon->check_swap_dir());
  BALLAST_TRY_STATUS(daemon->open_run_dir());
  daemon->members_->expect_the_last_daemons();
  BALLAST_TRY_STATUS(daemon->open_signals());
  remove_stale_swap_files(config.swap_dir, daemon->log_);
  const int bell = daemon->bell_.get();
  daemon->host_->ledger().set_pressure_hook([bell] { ring(bell); });
  daemon->log_.add(machine::Severity::kInfo, "", "host.started",
                   fmt::format("serving {} from {} (swap in {})", format_size(config.memory_bytes),
                               config.run_dir, config.swap_dir));
  return daemon;
}

Status Daemon::check_swap_dir() {
  std::error_code problem;
  std::filesystem::create_directories(config_.swap_dir,
                                      problem);  // SwapFile says what is wrong, if anything is
  const auto trial = SwapFile::create(config_.swap_dir, "ballastd-check", kPageBytes);
  if (!trial) return trial.error();
  for (const std::string& notice : (*trial)->notices()) {
    log_.add(machine::Severity::kWarning, "", "swap.notice", notice);
  }
  return Done{};
}

Status Daemon::open_run_dir() {
  std::error_code problem;
  std::filesystem::create_directories(config_.run_dir + "/hold", problem);
  if (problem)
    return Error{fmt::format("run directory {}: {}", config_.run_dir, problem.message())};
  BALLAST_TRY(lock_file_, take_lock(proto::lock_path(config_.run_dir)));
  BALLAST_TRY(control_, proto::LineServer::listen(proto::control_socket_path(config_.run_dir)));

  // The lock is ours, so a socket file that is left here is a dead daemon's.
  const std::string path = proto::agent_socket_path(config_.run_dir);
  unlink(path.c_str());
  BALLAST_TRY(const sockaddr_un address, proto::unix_address(path));
  agent_listener_.reset(proto::new_unix_socket());
  if (!agent_listener_.valid() ||
      bind(agent_listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) !=
          0 ||
      chmod(path.c_str(), 0660) != 0 || listen(agent_listener_.get(), 64) != 0) {
    return system_error("agent socket " + path);
  }
  return Done{};
}

Status Daemon::open_signals() {
  bell_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  // Blocked here, before any worker starts, so that only the signalfd gets them.
  sigprocmask(SIG_BLOCK, &set, nullptr);
  signals_.reset(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!bell_.valid() || !signals_.valid()) return system_error("eventfd or signalfd");
  return Done{};
}

void Daemon::run() {
  while (!stopping_) poll_once();
  log_.add(machine::Severity::kInfo, "", "host.stopping",
           fmt::format("stopping; {} VMs sleep at their next fault until a ballastd is back",
                       vms_.size()));
}

void Daemon::poll_once() {
  std::vector<pollfd> fds = {
      {signals_.get(), POLLIN, 0}, {bell_.get(), POLLIN, 0}, {agent_listener_.get(), POLLIN, 0}};
  const size_t arrivals_at = fds.size();
  const size_t arrivals = arrivals_.size();
  for (const Arrival& arrival : arrivals_) fds.push_back({arrival.link->fd(), POLLIN, 0});
  const size_t balloons_at = fds.size();
  for (const auto& [name, balloon] : balloons_)
    fds.push_back({balloon->fd(), balloon->wanted(), 0});
  const size_t balloons = balloons_.size();
  control_->add_pollfds(fds);

  if (poll(fds.data(), fds.size(), poll_timeout()) < 0 && errno != EINTR) {
    BALLAST_CHECK_THAT(false, "poll: errno {}", errno);
  }

  if (fds[0].revents != 0) take_signals();
  if (fds[1].revents != 0) drain(bell_.get());
  for (size_t i = 0; i < arrivals; ++i) {
    if (fds[arrivals_at + i].revents != 0) serve_arrival(arrivals_[i]);
    Arrival& arrival = arrivals_[i];
    if (!arrival.over && clock_.now() - arrival.since > kArrivalPatience) {
      refuse(arrival, "QEMU did not map all of the VM's memory within 10 s of its first part");
    }
  }
  std::erase_if(arrivals_, [](const Arrival& arrival) { return arrival.over; });
  if (fds[2].revents != 0) accept_agents();
  control_->handle(
      fds, [this](const nlohmann::json& request) { return proto::answer(request, service()); },
      clock_.now());
  serve_balloons(std::span(fds).subspan(balloons_at, balloons));
  bury_the_dead();
  if (clock_.now() - swept_ > kSweepPeriod) sweep();
  if (fds[1].revents != 0 || clock_.now() - ticked_ >= host_->tick_period()) tick();
}

// Idle hosts sleep long; a host short of memory, or with somebody at the door, looks often.
int Daemon::poll_timeout() const {
  const Nanoseconds now = clock_.now();
  Nanoseconds wake = now + (vms_.empty() ? 2 * kSecond : kSecond);
  const bool often = !arrivals_.empty() || members_->absent() > 0 || host_->short_of_memory();
  if (often) wake = std::min(wake, now + 100 * kMillisecond);
  if (!vms_.empty()) wake = std::min(wake, ticked_ + host_->tick_period());
  for (const auto& [name, balloon] : balloons_) wake = std::min(wake, balloon->wake_at());
  const int timeout =
      wake <= now ? 0 : static_cast<int>((wake - now + kMillisecond - 1) / kMillisecond);
  const int client_timeout = control_->timeout_ms(now);
  return client_timeout < 0 ? timeout : std::min(timeout, client_timeout);
}

// `polled`: one for each balloon, in order.
void Daemon::serve_balloons(std::span<const pollfd> polled) {
  size_t at = 0;
  for (const auto& [name, balloon] : balloons_) {
    if (at < polled.size() && polled[at].fd == balloon->fd() && polled[at].revents != 0) {
      balloon->handle(clock_.now());
    }
    ++at;
    if (balloon->wake_at() <= clock_.now()) balloon->tick(clock_.now());
  }
}

void Daemon::take_signals() {
  signalfd_siginfo signal{};
  while (read(signals_.get(), &signal, sizeof(signal)) == static_cast<ssize_t>(sizeof(signal)))
    stopping_ = true;
}

void Daemon::accept_agents() {
  while (true) {
    UniqueFd socket(accept4(agent_listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket.valid()) return;
    auto process = VmProcess::of_peer(socket.get());
    if (!process || arrivals_.size() >= kArrivalsMax)
      continue;  // died already, or a flood: closed unheard
    Arrival arrival;
    arrival.link = std::make_unique<AgentLink>(std::move(socket));
    arrival.process = std::move(*process);
    arrival.since = clock_.now();
    arrivals_.push_back(std::move(arrival));
  }
}

void Daemon::refuse(Arrival& arrival, const std::string& why) {
  const std::string name = arrival.attachment ? arrival.attachment->hand_off.spec.name : "";
  log_.add(machine::Severity::kWarning, name, "vm.refused", fmt::format("refused: {}", why));
  (void)arrival.link->send_refuse(why);  // who cannot be told hangs up
  arrival.over = true;
}

void Daemon::serve_arrival(Arrival& arrival) {
  auto received = arrival.link->receive();
  if (!received) return refuse(arrival, received.error().message);
  if (received->hand_off_arrived) {
    auto attachment = linux_machine::attach(std::move(received->hand_off), *arrival.process);
    if (!attachment) return refuse(arrival, attachment.error().message);
    if (arrival.attachment) {
      const auto more =
          linux_machine::check_continuation(arrival.attachment->hand_off, attachment->hand_off);
      if (!more) return refuse(arrival, more.error().message);
    }
    arrival.attachment = std::move(*attachment);
    if (const auto status = admit(arrival); !status) return refuse(arrival, status.error().message);
  }
  if (received->closed) arrival.over = true;
}

Status Daemon::admit(Arrival& arrival) {
  const linux_machine::HandOff& hand_off = arrival.attachment->hand_off;
  const auto running = vms_.find(hand_off.spec.name);
  if (running != vms_.end() && running->second->pid() == arrival.process->pid()) {
    return rejoin(arrival, *running->second);
  }
  if (running != vms_.end()) {
    return Error{fmt::format("a VM named {} runs already (process {}); names must differ",
                             hand_off.spec.name, running->second->pid())};
  }
  BALLAST_TRY_STATUS(check_memory_is_its_own(arrival));
  if (!hand_off.has_kept) {
    BALLAST_TRY_STATUS(host_->admit(hand_off.spec));
  }
  // QEMU maps its next region once this one is accepted; the VM starts with the last.
  if (!hand_off.is_complete()) return arrival.link->send_accept({});
  return start_vm(arrival);
}

// Two VMs on one RAM file would take each other's pages away, and every frame would count twice.
Status Daemon::check_memory_is_its_own(const Arrival& arrival) const {
  for (const auto& [name, vm] : vms_) {
    for (const linux_machine::FileId& theirs : vm->ram_ids()) {
      if (std::ranges::find(arrival.attachment->ram_ids, theirs) ==
          arrival.attachment->ram_ids.end())
        continue;
      return Error{fmt::format(
          "hand-off refused: a RAM file of {} is memory of the VM {} already; every VM needs "
          "files of its own",
          arrival.attachment->hand_off.spec.name, name)};
    }
  }
  return Done{};
}

std::string Daemon::hold_path(const std::string& vm) const {
  return config_.run_dir + "/hold/" + vm;
}

Status Daemon::rejoin(Arrival& arrival, ServedVm& vm) {
  if (arrival.attachment->hand_off.regions.size() != vm.hand_off().regions.size()) {
    return Error{fmt::format("{} came back with other memory than it has", vm.spec().name)};
  }
  BALLAST_TRY_STATUS(arrival.link->send_accept({}));
  const std::shared_ptr<AgentLink> link =
      std::move(arrival.link);  // std::function must be copyable
  vm.post(
      [link](ServedVm& served) { served.rejoin(std::make_unique<AgentLink>(std::move(*link))); });
  arrival.over = true;
  return Done{};
}

Status Daemon::start_vm(Arrival& arrival) {
  linux_machine::Attachment& attachment = *arrival.attachment;
  const VmSpec spec = attachment.hand_off.spec;
  const bool taken_over = attachment.hand_off.has_kept;
  const size_t tables = engine::Pager::tables_bytes(pages_of(spec));
  const size_t arena = engine::Pager::arena_bytes(pages_of(spec));

  ServedVm::Parts parts;
  if (taken_over) {
    BALLAST_TRY(parts.store, MemfdStore::adopt(std::move(attachment.tables),
                                               std::move(attachment.arena), tables, arena));
    BALLAST_TRY(const uint64_t kept, SwapFile::kept_bytes(attachment.swap.get(), swap_bytes(spec),
                                                          spec.configured_bytes));
    BALLAST_TRY(parts.swap, SwapFile::adopt(std::move(attachment.swap), kept));
  } else {
    BALLAST_TRY(parts.store, MemfdStore::create(spec.name, tables, arena));
    BALLAST_TRY(parts.swap, SwapFile::create(config_.swap_dir, spec.name, swap_bytes(spec)));
  }
  for (const std::string& notice : parts.swap->notices()) {
    log_.add(machine::Severity::kWarning, spec.name, "swap.notice", notice);
  }
  BALLAST_TRY(const UniqueFd tables_fd, parts.store->read_only_fd(MemfdStore::Part::kTables));
  BALLAST_TRY(const UniqueFd arena_fd, parts.store->read_only_fd(MemfdStore::Part::kArena));
  BALLAST_TRY(const UniqueFd swap_fd, parts.swap->read_only_fd());
  parts.attachment = std::move(attachment);
  parts.process = std::move(arrival.process);

  const auto on_left = [this](const std::string& name) {
    {
      const std::lock_guard hold(left_lock_);
      left_.push_back(name);
    }
    ring(bell_.get());
  };
  const pid_t pid = parts.process->pid();
  BALLAST_TRY(auto hold, VcpuHold::open(hold_path(spec.name), pid));
  parts.hold.emplace(std::move(hold));
  if (taken_over) {
    members_->returned(spec.name, pid);
  } else {
    saved_allocations_.remove(spec.name);  // of an earlier VM of this name that nobody saw die
  }
  auto created = ServedVm::create(std::move(parts),
                                  taken_over ? ServedVm::Kind::kTakenOver : ServedVm::Kind::kNew,
                                  host_->ledger(), host_->options(), log_, on_left);
  if (!created) {
    if (taken_over) members_->failed_to_take_over(spec.name, pid);
    return created.error();
  }
  std::unique_ptr<ServedVm> vm = std::move(*created);
  if (taken_over) members_->took_over();
  members_->add(spec.name, pid, engine::Pager::overhead_bytes(pages_of(spec)));
  // The agent must hold what outlives us before the first page can be stored there.
  const std::array<int, 3> kept = {tables_fd.get(), arena_fd.get(), swap_fd.get()};
  BALLAST_TRY_STATUS(
      arrival.link->send_accept(taken_over ? std::span<const int>() : std::span<const int>(kept)));
  vm->set_agent(std::move(arrival.link));
  arrival.over = true;
  log_.add(machine::Severity::kInfo, spec.name, taken_over ? "vm.taken-over" : "vm.admitted",
           fmt::format("{}: {} of memory, min {}, swap {}, process {}",
                       taken_over ? "taken over from an earlier ballastd" : "admitted",
                       format_size(spec.configured_bytes), format_size(spec.allocation.min_bytes),
                       format_size(swap_bytes(spec)), vm->pid()));
  auto balloon = std::make_unique<linux_machine::QmpBalloon>(vm->hand_off().qmp_path, vm->pid(),
                                                             spec.configured_bytes);
  const auto saved =
      taken_over ? saved_allocations_.load(spec.name, spec.configured_bytes) : std::nullopt;
  const auto grow_swap = [raw = vm.get()](uint64_t bytes) { return raw->grow_swap(bytes); };
  host_->add({&vm->pager(), balloon.get(), grow_swap}, saved.value_or(spec.allocation));
  balloons_[spec.name] = std::move(balloon);
  vm->start();
  vms_[spec.name] = std::move(vm);
  return Done{};
}

void Daemon::bury_the_dead() {
  std::vector<std::string> names;
  {
    const std::lock_guard hold(left_lock_);
    names.swap(left_);
  }
  for (const std::string& name : names) {
    const auto found = vms_.find(name);
    if (found == vms_.end()) continue;
    found->second->stop();
    host_->remove(found->second->pager());
    vms_.erase(found);
    balloons_.erase(name);
    saved_allocations_.remove(name);
    members_->remove(name);
    unlink(hold_path(name).c_str());
  }
  members_->bury_the_dead();
  if (!names.empty()) sweep();
}

void Daemon::sweep() {
  swept_ = clock_.now();
  std::set<std::string> in_use;
  for (const auto& [name, vm] : vms_) in_use.insert(vm->hand_off().qmp_path);
  remove_stale_monitor_sockets(config_.run_dir, in_use);
}

void Daemon::tick() {
  ticked_ = clock_.now();
  host_->tick();
  for (auto& [name, vm] : vms_) {
    if (vm->pager().wants_to_move()) vm->ring();
    vm->note_paging();
    const bool paused = !balloons_.at(name)->view().vm_runs;
    if (paused == vm->known_as_paused) continue;
    vm->known_as_paused = paused;
    vm->post([paused](ServedVm& one) { one.set_paused(paused); });
  }
}

}  // namespace ballast::daemon
