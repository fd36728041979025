// Daemon: ballastd's main thread: admits VMs, answers the command line, balances targets. One VM's
// faults are served by that VM's worker (served_vm.h) and never wait for this thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "daemon/config.h"
#include "daemon/event_log.h"
#include "daemon/members.h"
#include "daemon/saved_settings.h"
#include "daemon/served_vm.h"
#include "daemon/service_manager.h"
#include "daemon/share_groups.h"
#include "engine/host.h"
#include "machine/linux/attach.h"
#include "machine/linux/clock.h"
#include "machine/linux/qmp_balloon.h"
#include "proto/control.h"
#include "proto/line_server.h"
#include "web/web.h"

namespace ballast::daemon {

class Daemon {
 public:
  // Reads the configuration anew, as it was read for start().
  using Reread = std::function<Result<Config>()>;
  // Takes the run directory's lock and its sockets, checks the swap directory. Errors say what to
  // do. `config`: with its defaults filled in.
  static Result<std::unique_ptr<Daemon>> start(const Config& config, Reread reread);
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  // Serves until SIGTERM or SIGINT; SIGHUP reads the configuration anew. The guests live on: they
  // sleep at their next fault until a daemon is back.
  void run();

 private:
  // An agent that connected and is not yet part of a running VM.
  struct Arrival {
    std::unique_ptr<linux_machine::AgentLink> link;
    std::optional<linux_machine::VmProcess> process;
    std::optional<linux_machine::Attachment> attachment;  // regions so far
    VmSpec spec;  // as it is powered on; attachment->hand_off.spec: as it was started
    Nanoseconds since = 0;
    bool over = false;
  };

  Daemon(Config config, Reread reread);
  Status open_run_dir();
  Status open_signals();
  Status check_swap_dir();
  proto::ControlService service();
  void start_web();  // after open_signals(): its threads must not get them
  void serve_web(short revents);

  void ring_bell() const;  // any thread
  void poll_once();
  int poll_timeout() const;
  void serve_balloons(std::span<const pollfd> polled);
  void take_signals();
  void accept_agents();
  void serve_arrival(Arrival& arrival);
  void refuse(Arrival& arrival, const std::string& why);
  Status admit(Arrival& arrival);
  Status check_memory_is_its_own(const Arrival& arrival) const;
  Status rejoin(Arrival& arrival, ServedVm& vm);
  // Creates, or takes over from the descriptors that the agent kept, what the VM needs; starts its
  // worker.
  Status start_vm(Arrival& arrival);
  Result<std::unique_ptr<ServedVm>> make_vm(Arrival& arrival);
  Status make_stores(Arrival& arrival, ServedVm::Parts& parts);
  Result<ShareGroups::Entry> enter_group(Arrival& arrival, const ServedVm::Parts& parts);
  static Status give_to_keep(linux_machine::AgentLink& link, const ServedVm::Kept& kept);
  void start_serving(std::unique_ptr<ServedVm> vm, bool taken_over);
  // Finds out how many mappings and how much of the CPU sharing may take.
  void prepare_sharing();
  std::string hold_path(const std::string& vm) const;
  void bury_the_dead();
  void sweep();
  void tick();
  HostReport report() const;
  void add_power_on(VmReport& vm) const;
  Status set(const std::string& vm, const VmChange& change);
  Status set_allocation(const std::string& vm, const AllocationChange& change);
  Result<std::string> set_option(std::string_view name, std::string_view value);
  void tell_vms_options();
  // daemon_reload.cc: what the files say now takes effect as far as it can; all of it or nothing.
  void reload();
  Status reload_config();
  void tell_service_manager();

  Config config_;  // changed by reload() alone
  const Reread reread_;
  ServiceManager service_manager_;
  EventLog log_;
  linux_machine::MonotonicClock clock_;
  SavedOptions saved_options_;
  SavedAllocations saved_allocations_;
  SavedPowerOn saved_power_on_;
  std::unique_ptr<engine::Host> host_;
  std::unique_ptr<Members> members_;
  std::unique_ptr<ShareGroups> share_groups_;
  uint64_t share_mappings_max_ = 0;  // of one VM's process
  UniqueFd lock_file_;
  UniqueFd agent_listener_;
  UniqueFd signals_;
  UniqueFd bell_;  // eventfd: pressure, or a VM left
  std::unique_ptr<proto::LineServer> control_;
  std::unique_ptr<web::Web> web_;  // null: not wanted
  std::map<std::string, std::unique_ptr<ServedVm>> vms_;
  std::map<std::string, std::unique_ptr<linux_machine::QmpBalloon>> balloons_;  // of vms_
  std::vector<Arrival> arrivals_;
  std::mutex left_lock_;  // guards left_
  std::vector<std::string> left_;
  Nanoseconds ticked_ = 0;
  Nanoseconds swept_ = 0;
  bool stopping_ = false;
};

}  // namespace ballast::daemon
