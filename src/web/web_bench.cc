// What the HTTP end costs with 200 VMs and the dashboard open, as a part of one core for each
// thread.
//
//   build/bin/web_bench [SECONDS] [VMS]
//
// A dashboard asks for the host every 2 s and for the history every 30 s, and holds an event
// stream; Prometheus scrapes every 15 s.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "web/test_host.h"
#include "web/web.h"

namespace {

using namespace ballast;
using namespace ballast::web;

int ask(uint16_t port, const std::string& path) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return -1;
  const std::string words =
      "GET " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
  (void)!send(fd, words.data(), words.size(), MSG_NOSIGNAL);
  return fd;
}

size_t fetch(uint16_t port, const std::string& path) {
  const int fd = ask(port, path);
  size_t total = 0;
  char buffer[65536];
  for (ssize_t got = 0; (got = recv(fd, buffer, sizeof buffer, 0)) > 0;) {
    total += static_cast<size_t>(got);
  }
  close(fd);
  return total;
}

// CPU seconds of our threads of that name.
double cpu_of(const std::string& name) {
  double seconds = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string comm;
    std::getline(std::ifstream(task.path() / "comm"), comm);
    uint64_t nanoseconds = 0;
    std::ifstream(task.path() / "schedstat") >> nanoseconds;
    if (comm == name) seconds += static_cast<double>(nanoseconds) / 1e9;
  }
  return seconds;
}

}  // namespace

int main(int argc, char** argv) {
  const int seconds = argc > 1 ? std::atoi(argv[1]) : 60;
  const auto vms = static_cast<size_t>(argc > 2 ? std::atoi(argv[2]) : 200);
  const std::string directory = fmt::format("/var/tmp/ballast-web-bench.{}", getpid());
  proto::ControlService service;
  service.host = [vms] { return make_host(vms); };
  {
    Web::Parts parts{
        .config = {}, .state_dir = directory, .events = make_events(), .say = {}, .limits = {}};
    parts.config.port = 0;
    parts.say = [](Severity, const std::string&, const std::string&) {};
    Web web(std::move(parts));
    while (web.port() == 0) usleep(1000);
    const int stream = ask(web.port(), "/api/v1/events/stream");
    std::atomic<bool> over = false;
    std::thread clients([&] {
      for (int second = 0; second < seconds; ++second) {
        if (second % 2 == 0) fetch(web.port(), "/api/v1/host");
        if (second % 30 == 5) fetch(web.port(), "/api/v1/history?since=-3600&step=30&vms=all");
        if (second % 15 == 3) fetch(web.port(), "/metrics");
        sleep(1);
      }
      over = true;
    });
    while (!over) {
      pollfd bell{web.bell(), POLLIN, 0};
      (void)poll(&bell, 1, 100);
      if (bell.revents != 0 || steady_now() >= web.wake_at()) web.serve(service);
    }
    clients.join();
    fmt::print("{} VMs, {} s\n", vms, seconds);
    for (const char* thread : {"http", "history"}) {
      fmt::print("{}: {:.2f} % of a core\n", thread, 100 * cpu_of(thread) / seconds);
    }
    close(stream);
  }
  std::filesystem::remove_all(directory);
  return 0;
}
