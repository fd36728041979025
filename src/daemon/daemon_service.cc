// What the daemon does for clients of the control socket.
#include "daemon/daemon.h"
#include "machine/linux/machine_memory.h"

namespace ballast::daemon {

HostReport Daemon::report() const {
  HostReport report = host_->report();
  const linux_machine::MachineMemory machine = linux_machine::machine_memory();
  report.machine_total_bytes = machine.total_bytes;
  report.machine_available_bytes = machine.available_bytes;
  for (VmReport& vm : report.vms) {
    vms_.at(vm.spec.name)->add_to(vm);
    add_power_on(vm);
  }
  return report;
}

void Daemon::add_power_on(VmReport& vm) const {
  const VmSpec& started = vms_.at(vm.spec.name)->hand_off().spec;
  vm.power_on = saved_power_on_.load(started);
  vm.next_share_group =
      next_share_group(vm.spec, started, vm.power_on, host_->options().share_force_salting);
}

Status Daemon::set(const std::string& vm, const VmChange& change) {
  const VmSpec& spec = vms_.at(vm)->hand_off().spec;
  const PowerOn before = saved_power_on_.load(spec);
  const PowerOn wanted = apply(before, change.power_on);
  // All or nothing: what can be taken back comes first.
  if (wanted != before) BALLAST_TRY_STATUS(saved_power_on_.save(spec, wanted));
  if (change.allocation != AllocationChange{}) {
    if (const Status set = set_allocation(vm, change.allocation); !set) {
      if (wanted != before) (void)saved_power_on_.save(spec, before);
      return set;
    }
  }
  if (wanted == before) return Done{};
  const bool as_started = wanted.sharing == PageSharing::kAsStarted;
  log_.add(machine::Severity::kInfo, vm, "vm.set",
           fmt::format("when it is powered on next: salt {}, page sharing {}",
                       wanted.salt.empty() ? "as it is started" : wanted.salt,
                       as_started ? "as it is started" : format_sharing(wanted.sharing)));
  return Done{};
}

Status Daemon::set_allocation(const std::string& vm, const AllocationChange& change) {
  BALLAST_TRY_STATUS(host_->set(vm, change));
  const Allocation& now = *host_->allocation(vm);
  log_.add(machine::Severity::kInfo, vm, "vm.set",
           fmt::format("min {}, limit {}, shares {}, balloon up to {}", format_size(now.min_bytes),
                       now.limit_bytes == kNoLimit ? "none" : format_size(now.limit_bytes),
                       format_shares(now.shares),
                       now.balloon_max_bytes == kDefaultBalloonMax
                           ? "the host's maximum"
                           : format_size(now.balloon_max_bytes)));
  const Status saved = saved_allocations_.save(vm, now);
  if (!saved) {
    log_.add(machine::Severity::kWarning, vm, "vm.set",
             "will be forgotten when ballastd restarts: " + saved.error().message);
  }
  tick();
  return Done{};
}

void Daemon::tell_vms_options() {
  for (auto& [vm, served] : vms_) {
    served->post([options = host_->options()](ServedVm& one) { one.pager().set_options(options); });
  }
  tick();
}

Result<std::string> Daemon::set_option(std::string_view name, std::string_view value) {
  BALLAST_TRY_STATUS(host_->set_option(name, value));
  log_.add(machine::Severity::kInfo, "", "host.option", fmt::format("{} = {}", name, value));
  tell_vms_options();
  const Status saved = saved_options_.save(name, value);
  return saved ? std::string() : saved.error().message;
}

proto::ControlService Daemon::service() {
  proto::ControlService service;
  service.version = BALLAST_VERSION;
  service.host = [this] { return report(); };
  service.events = [this](uint64_t since) { return log_.since(since); };
  service.last_event = [this] { return log_.last(); };
  service.resume = [this](const std::string& name) -> Status {
    if (!vms_.at(name)->frozen()) return Error{fmt::format("{} is not paused", name)};
    vms_.at(name)->post([](ServedVm& vm) { vm.resume(); });
    return Done{};
  };
  service.reclaim = [this](const std::string& name, uint64_t bytes) -> Status {
    vms_.at(name)->post([bytes](ServedVm& vm) { vm.reclaim(bytes); });
    return Done{};
  };
  service.admit = [this](const VmSpec& spec) { return host_->admit(spec); };
  service.reserve = [this](const VmSpec& spec, uint64_t seconds) {
    return host_->reserve(spec, seconds * kSecond);
  };
  service.unreserve = [this](const std::string& name) { return host_->unreserve(name); };
  service.set = [this](const std::string& name, const VmChange& change) {
    return set(name, change);
  };
  service.what_if = [this](const WhatIfQuestion& question) { return host_->what_if(question); };
  service.options = [this] { return host_->options(); };
  service.set_option = [this](std::string_view name, std::string_view value) {
    return set_option(name, value);
  };
  return service;
}

}  // namespace ballast::daemon
