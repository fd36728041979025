// Daemon's door: agents that connect, hand-offs, admission, and how a VM's parts are made or taken
// over.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "daemon/daemon.h"
#include "model/salt.h"

namespace ballast::daemon {

namespace {

using linux_machine::AgentLink;
using linux_machine::MemfdStore;
using linux_machine::SwapFile;
using linux_machine::VmProcess;

constexpr size_t kArrivalsMax = 64;

uint32_t pages_of(const VmSpec& spec) {
  return static_cast<uint32_t>(pages_ceil(spec.configured_bytes));
}

std::string random_word() {
  uint64_t word = 0;
  BALLAST_CHECK(getentropy(&word, sizeof(word)) == 0);
  return fmt::format("{:016x}", word);
}

}  // namespace

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
  arrival.spec = hand_off.spec;
  if (!hand_off.has_kept) {
    VmSpec& spec = arrival.spec = apply(hand_off.spec, saved_power_on_.load(hand_off.spec));
    spec.share_group = share_group(spec, host_->options().share_force_salting, random_word());
    BALLAST_TRY_STATUS(host_->admit(spec));
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

// What the agent keeps for the next daemon, and what an earlier one gave it.
Status Daemon::make_stores(Arrival& arrival, ServedVm::Parts& parts) {
  linux_machine::Attachment& attachment = *arrival.attachment;
  const VmSpec& spec = arrival.spec;
  const size_t tables = engine::Pager::tables_bytes(pages_of(spec));
  const size_t arena = engine::Pager::arena_bytes(pages_of(spec));
  if (attachment.hand_off.has_kept) {
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
  return Done{};
}

// The salt group that the VM enters; none if it shares nothing.
Result<ShareGroups::Entry> Daemon::enter_group(Arrival& arrival, const ServedVm::Parts& parts) {
  linux_machine::Attachment& attachment = *arrival.attachment;
  VmSpec& spec = arrival.spec;
  if (!attachment.hand_off.has_kept) {
    return spec.share_group.empty() ? ShareGroups::Entry{}
                                    : share_groups_->of_new(spec.share_group);
  }
  // It is what it was powered on with, whatever the options say now.
  spec.share_group = engine::Pager::kept_group(parts.store->tables());
  if (spec.share_group.empty()) return ShareGroups::Entry{};
  if (!attachment.pool.valid()) {
    return Error{fmt::format("{} came back without the pool of its salt group {}", spec.name,
                             spec.share_group)};
  }
  return share_groups_->of_returned(spec.share_group, std::move(attachment.pool));
}

// The agent must hold what outlives us before the first page can be stored there.
Status Daemon::give_to_keep(AgentLink& link, const ServedVm::Kept& kept) {
  std::vector<UniqueFd> owned;
  BALLAST_TRY(UniqueFd tables, kept.store->read_only_fd(MemfdStore::Part::kTables));
  BALLAST_TRY(UniqueFd arena, kept.store->read_only_fd(MemfdStore::Part::kArena));
  BALLAST_TRY(UniqueFd swap, kept.swap->read_only_fd());
  owned.push_back(std::move(tables));
  owned.push_back(std::move(arena));
  owned.push_back(std::move(swap));
  if (kept.pool != nullptr) {
    BALLAST_TRY(UniqueFd pool, kept.pool->read_only_fd());
    owned.push_back(std::move(pool));
  }
  std::vector<int> numbers;
  for (const UniqueFd& fd : owned) numbers.push_back(fd.get());
  return link.send_accept(numbers);
}

Result<std::unique_ptr<ServedVm>> Daemon::make_vm(Arrival& arrival) {
  linux_machine::Attachment& attachment = *arrival.attachment;
  const bool taken_over = attachment.hand_off.has_kept;
  ServedVm::Parts parts;
  BALLAST_TRY_STATUS(make_stores(arrival, parts));
  BALLAST_TRY(const ShareGroups::Entry share, enter_group(arrival, parts));
  parts.spec = arrival.spec;
  parts.share = share.group;
  parts.share_pool = share.pool;
  parts.share_mappings_max = share_mappings_max_;
  const pid_t pid = arrival.process->pid();
  BALLAST_TRY(auto hold, VcpuHold::open(hold_path(arrival.spec.name), pid));
  parts.hold.emplace(std::move(hold));
  parts.attachment = std::move(attachment);
  parts.process = std::move(arrival.process);
  const auto on_left = [this](const std::string& name) {
    {
      const std::lock_guard hold_names(left_lock_);
      left_.push_back(name);
    }
    ring_bell();
  };
  return ServedVm::create(std::move(parts),
                          taken_over ? ServedVm::Kind::kTakenOver : ServedVm::Kind::kNew,
                          host_->ledger(), host_->options(), log_, on_left);
}

Status Daemon::start_vm(Arrival& arrival) {
  const std::string name = arrival.spec.name;
  const bool taken_over = arrival.attachment->hand_off.has_kept;
  const pid_t pid = arrival.process->pid();
  if (taken_over) {
    members_->returned(name, pid);
  } else {
    saved_allocations_.remove(name);  // of an earlier VM of this name that nobody saw die
  }
  auto created = make_vm(arrival);
  if (!created) {
    if (taken_over) members_->failed_to_take_over(name, pid);
    return created.error();
  }
  std::unique_ptr<ServedVm> vm = std::move(*created);
  const VmSpec spec = vm->spec();
  if (taken_over) members_->took_over();
  members_->add(name, pid,
                engine::Pager::overhead_bytes(pages_of(spec), !spec.share_group.empty()));
  BALLAST_TRY_STATUS(taken_over ? arrival.link->send_accept({})
                                : give_to_keep(*arrival.link, vm->kept()));
  vm->set_agent(std::move(arrival.link));
  arrival.over = true;
  log_.add(
      machine::Severity::kInfo, name, taken_over ? "vm.taken-over" : "vm.admitted",
      fmt::format("{}: {} of memory, min {}, swap {}, {}, process {}",
                  taken_over ? "taken over from an earlier ballastd" : "admitted",
                  format_size(spec.configured_bytes), format_size(spec.allocation.min_bytes),
                  format_size(swap_bytes(spec)),
                  spec.share_group.empty() ? "shares nothing" : "salt group " + spec.share_group,
                  pid));
  start_serving(std::move(vm), taken_over);
  return Done{};
}

void Daemon::start_serving(std::unique_ptr<ServedVm> vm, bool taken_over) {
  const VmSpec& spec = vm->spec();
  auto balloon = std::make_unique<linux_machine::QmpBalloon>(vm->hand_off().qmp_path, vm->pid(),
                                                             spec.configured_bytes);
  const auto saved =
      taken_over ? saved_allocations_.load(spec.name, spec.configured_bytes) : std::nullopt;
  const auto grow_swap = [raw = vm.get()](uint64_t bytes) { return raw->grow_swap(bytes); };
  host_->add({&vm->pager(), balloon.get(), grow_swap, vm->kept().group},
             saved.value_or(spec.allocation));
  balloons_[spec.name] = std::move(balloon);
  vm->start();
  const std::string name = spec.name;
  vms_[name] = std::move(vm);
}

}  // namespace ballast::daemon
