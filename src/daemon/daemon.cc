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

#include "daemon/access.h"
#include "daemon/monitor_sockets.h"
#include "machine/linux/map_count.h"
#include "proto/run_dir.h"
#include "proto/unix_socket.h"

namespace ballast::daemon {

namespace {

using linux_machine::SwapFile;

// The daemon's own code, heap and stacks, measured at 9 MB with 4 VMs.
constexpr uint64_t kOwnBytes = 10ull << 20;
// How long the monitor socket of a QEMU that was killed before it reached us may lie around.
constexpr Nanoseconds kSweepPeriod = 2 * kSecond;
// From connecting to the last region: QEMU maps its RAM within milliseconds.
constexpr Nanoseconds kArrivalPatience = 10 * kSecond;
// vm.max_map_count: enough for page sharing in VMs of a few hundred GB.
constexpr uint64_t kMappingsWanted = 1 << 20;
// A daemon that was just killed may still be letting go of the lock.
constexpr int kLockTries = 100;

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

}  // namespace

Daemon::Daemon(Config config, Reread reread)
    : config_(std::move(config)),
      reread_(std::move(reread)),
      log_(config_.log_level),
      saved_options_(config_.state_dir),
      saved_allocations_(config_.run_dir),
      saved_power_on_(config_.state_dir) {}

Daemon::~Daemon() {
  web_.reset();  // asks nothing any more
  for (auto& [name, vm] : vms_) {
    vm->stop();
    host_->remove(vm->pager());
  }
  vms_.clear();
  balloons_.clear();
  share_groups_.reset();                             // gives charges back, which rings the bell
  if (host_) host_->ledger().set_pressure_hook({});  // nobody is there to hear it from here on
  if (agent_listener_.valid()) unlink(proto::agent_socket_path(config_.run_dir).c_str());
}

Result<std::unique_ptr<Daemon>> Daemon::start(const Config& config, Reread reread) {
  std::unique_ptr<Daemon> daemon(new Daemon(config, std::move(reread)));
  Options options = config.options;
  BALLAST_TRY_STATUS(daemon->saved_options_.load(options));
  BALLAST_TRY(daemon->host_, engine::Host::create(config.memory_bytes, kOwnBytes, options,
                                                  daemon->clock_, daemon->log_.sink()));
  daemon->members_ = std::make_unique<Members>(config.run_dir, daemon->host_->ledger());
  daemon->share_groups_ = std::make_unique<ShareGroups>(daemon->host_->ledger());
  daemon->prepare_sharing();
  BALLAST_TRY_STATUS(daemon->check_swap_dir());
  BALLAST_TRY_STATUS(daemon->open_run_dir());
  daemon->members_->expect_the_last_daemons();
  BALLAST_TRY_STATUS(daemon->open_signals());
  remove_stale_swap_files(config.swap_dir, daemon->log_);
  daemon->host_->ledger().set_pressure_hook([raw = daemon.get()] { raw->ring_bell(); });
  daemon->log_.add(machine::Severity::kInfo, "", "host.started",
                   fmt::format("serving {} from {} (swap in {})", format_size(config.memory_bytes),
                               config.run_dir, config.swap_dir));
  daemon->start_web();
  return daemon;
}

void Daemon::prepare_sharing() {
  host_->set_cpu_ghz(cpu_ghz());
  // Every stretch of shared pages is a mapping of QEMU's; half of the limit stays for itself, and
  // for the way back.
  const auto limit = linux_machine::raise_map_count(kMappingsWanted);
  share_mappings_max_ = limit ? limit->now / 2 : 0;
  if (limit && !limit->refused) return;
  log_.add(machine::Severity::kWarning, "", "share.few-mappings",
           fmt::format("vm.max_map_count could not be raised to {} ({}): page sharing may use {} "
                       "mappings of a VM. Raise it: sysctl vm.max_map_count={}",
                       kMappingsWanted, limit ? limit->why : limit.error().message,
                       share_mappings_max_, kMappingsWanted));
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
  const std::string control_path = proto::control_socket_path(config_.run_dir);
  BALLAST_TRY(control_, proto::LineServer::listen(control_path));
  BALLAST_TRY_STATUS(open_to_group(control_path, config_.group));

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
  sigaddset(&set, SIGHUP);
  // Blocked here, before any worker starts, so that only the signalfd gets them.
  sigprocmask(SIG_BLOCK, &set, nullptr);
  signals_.reset(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!bell_.valid() || !signals_.valid()) return system_error("eventfd or signalfd");
  return Done{};
}

void Daemon::ring_bell() const {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(bell_.get(), &one, sizeof(one));
}

void Daemon::run() {
  tell_service_manager();
  service_manager_.ready();
  while (!stopping_) {
    poll_once();
    service_manager_.alive(clock_.now());
  }
  service_manager_.stopping();
  log_.add(machine::Severity::kInfo, "", "host.stopping",
           fmt::format("stopping; {} VMs sleep at their next fault until a ballastd is back",
                       vms_.size()));
}

void Daemon::poll_once() {
  std::vector<pollfd> fds = {{signals_.get(), POLLIN, 0},
                             {bell_.get(), POLLIN, 0},
                             {agent_listener_.get(), POLLIN, 0},
                             {web_ ? web_->bell() : -1, POLLIN, 0}};
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
      fds,
      [this](const nlohmann::json& request, const proto::Peer& peer) {
        return proto::answer(request, service(), access_of(peer));
      },
      clock_.now());
  serve_web(fds[3].revents);
  serve_balloons(std::span(fds).subspan(balloons_at, balloons));
  bury_the_dead();
  if (clock_.now() - swept_ > kSweepPeriod) sweep();
  if (fds[1].revents != 0 || clock_.now() - ticked_ >= host_->tick_period()) tick();
}

// Idle hosts sleep long; a host short of memory, or with somebody at the door, looks often.
int Daemon::poll_timeout() const {
  const Nanoseconds now = clock_.now();
  Nanoseconds wake = now + (vms_.empty() ? 2 * kSecond : kSecond);
  wake = std::min(wake, service_manager_.wake_at());
  const bool often = !arrivals_.empty() || members_->absent() > 0 || host_->short_of_memory();
  if (often) wake = std::min(wake, now + 100 * kMillisecond);
  if (!vms_.empty()) wake = std::min(wake, ticked_ + host_->tick_period());
  for (const auto& [name, balloon] : balloons_) wake = std::min(wake, balloon->wake_at());
  if (web_) wake = std::min(wake, web_->wake_at());
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
  bool asked_to_reload = false;
  while (read(signals_.get(), &signal, sizeof(signal)) == static_cast<ssize_t>(sizeof(signal))) {
    (signal.ssi_signo == SIGHUP ? asked_to_reload : stopping_) = true;
  }
  if (asked_to_reload && !stopping_) reload();
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
  if (members_->absent() == 0) share_groups_->end_recovery();
  share_groups_->tidy();  // a VM that died while it arrived leaves its group without members too
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
  tell_service_manager();
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
