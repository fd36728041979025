// ballast-fake-daemon DIR VMS: the daemon's own control socket, but the host behind it is made up:
// any number of VMs whose counters move. `./bench top` measures with it what a screen full of VMs
// costs, in the daemon and in those who look.
#include <poll.h>
#include <signal.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "proto/control.h"
#include "proto/line_server.h"
#include "proto/run_dir.h"

namespace {

using namespace ballast;

constexpr uint64_t kMb = 1 << 20;

Nanoseconds now() {
  return static_cast<Nanoseconds>(std::chrono::steady_clock::now().time_since_epoch().count());
}

VmReport make_vm(uint64_t number, uint64_t tick) {
  VmReport vm;
  vm.spec = {.name = fmt::format("vm{:03}", number),
             .uuid = fmt::format("12345678-1234-1234-1234-{:012}", number),
             .configured_bytes = (number % 7 + 1) * 512 * kMb,
             .allocation = {.min_bytes = 128 * kMb}};
  const uint64_t size = vm.spec.configured_bytes;
  vm.pid = static_cast<int32_t>(1000 + number);
  vm.state = "running";
  vm.target_bytes = size / 2;
  vm.resident_bytes = size / 2 - (tick * number) % kMb;
  vm.arena_bytes = size / 32;
  vm.arena_max_bytes = size / 10;
  vm.overhead_bytes = size / 200;
  vm.consumed_bytes = vm.resident_bytes + vm.arena_bytes + vm.overhead_bytes;
  vm.compressed_bytes = size / 16;
  vm.swapped_bytes = size / 8 + (tick * number) % kMb;
  vm.swap_target_bytes = vm.swapped_bytes;
  vm.zero_bytes = size / 20;
  vm.shared_bytes = size / 30;
  vm.share_part_bytes = size / 90;
  vm.shares = size / kMb * 10;
  vm.want_bytes = size / 3 * 2;
  vm.bound = "shares";
  vm.active_bytes = vm.active_fast_bytes = size / 4;
  vm.active_slow_bytes = vm.active_now_bytes = size / 5;
  vm.samples = tick;
  vm.balloon_state = "idle";
  vm.balloon_bytes = size / 10;
  vm.balloon_target_bytes = size / 10;
  vm.balloon_max_bytes = size / 100 * 65;
  vm.spec.share_group = vm.next_share_group = "salt:web";
  vm.faults = tick * 1000 + number;
  vm.swap_ins = tick * (number % 5);
  vm.swap_outs = tick * (number % 3);
  vm.zips = tick * 50;
  vm.unzips = tick * 40;
  vm.fault_p50_ns = 9'000;
  vm.fault_p99_ns = 250'000;
  return vm;
}

HostReport make_host(uint64_t vms, Nanoseconds started) {
  const Nanoseconds uptime = now() - started;
  const uint64_t tick = uptime / (100 * kMillisecond) + 1;
  HostReport host;
  host.uptime_ns = uptime;
  host.machine_total_bytes = uint64_t{1} << 40;
  host.machine_available_bytes = uint64_t{1} << 37;
  host.budget_bytes = uint64_t{900} << 30;
  host.daemon_bytes = 10 * kMb;
  host.state = "soft";
  for (uint64_t i = 0; i < vms; ++i) {
    host.vms.push_back(make_vm(i, tick));
    host.consumed_bytes += host.vms.back().consumed_bytes;
    host.promised_bytes += host.vms.back().spec.configured_bytes;
  }
  host.free_bytes = host.budget_bytes - std::min(host.budget_bytes, host.consumed_bytes);
  return host;
}

}  // namespace

int main(int count, char** words) {
  if (count != 3) {
    std::fprintf(stderr, "usage: ballast-fake-daemon DIR VMS\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  const std::string directory = words[1];
  const uint64_t vms = std::strtoull(words[2], nullptr, 10);
  std::filesystem::create_directories(directory);
  auto server = proto::LineServer::listen(proto::control_socket_path(directory));
  if (!server) {
    std::fprintf(stderr, "ballast-fake-daemon: %s\n", server.error().message.c_str());
    return 1;
  }
  const Nanoseconds started = now();
  proto::ControlService service;
  service.version = "fake";
  service.host = [&] { return make_host(vms, started); };
  service.events = [](uint64_t) { return std::vector<Event>(); };
  service.last_event = [] { return uint64_t{0}; };
  for (;;) {
    std::vector<pollfd> polled;
    (*server)->add_pollfds(polled);
    poll(polled.data(), polled.size(), (*server)->timeout_ms(now()));
    (*server)->handle(
        polled,
        [&](const nlohmann::json& request, const proto::Peer&) {
          return proto::answer(request, service);
        },
        now());
  }
}
