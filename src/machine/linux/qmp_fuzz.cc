// libFuzzer: what a monitor may send, line by line, to a balloon that speaks with it. The first
// byte says whether the greeting and the device are honest, so that the rest reaches deep; `@` in a
// line stands for the id of the command that waits for a reply.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "machine/linux/qmp_balloon.h"
#include "machine/linux/test_monitor.h"

namespace {

using namespace ballast;

constexpr uint64_t kRam = 64ull << 20;

struct Session {
  explicit Session(linux_machine::TestMonitor& server) : monitor(server) {}

  linux_machine::TestMonitor& monitor;
  linux_machine::QmpBalloon balloon{monitor.path(), getpid(), kRam};
  Nanoseconds now = kSecond;
  std::string id = "0";
  std::string command;

  void step(Nanoseconds span) {
    now += span;
    linux_machine::turn(balloon, now);
    monitor.accept();
    if (!monitor.has_client()) return;
    while (const auto asked = monitor.command()) {
      id = (*asked)["id"].dump();
      command = (*asked)["execute"];
    }
  }
  void begin() {
    step(0);
    monitor.greet();
    for (int i = 0; i < 12; ++i) {
      step(kMillisecond);
      if (command == "query-balloon") return;
      std::string value = "{}";
      if (command == "qom-list") value = R"([{"name":"b","type":"child<virtio-balloon-pci>"}])";
      if (command == "query-status") value = R"({"running":true})";
      if (!command.empty()) monitor.send(R"({"return":)" + value + R"(,"id":)" + id + "}\n");
      command.clear();
    }
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static linux_machine::TestMonitor monitor;
  if (size == 0) return 0;
  while (monitor.accept()) {  // of the session before
  }
  Session session(monitor);
  session.balloon.set_stats_period(1);
  if ((data[0] & 1) != 0) session.begin();
  std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  while (!rest.empty()) {
    session.step(kMillisecond);
    const size_t end = std::min(rest.find('\n'), rest.size() - 1) + 1;
    std::string line(rest.substr(0, end));
    rest.remove_prefix(end);
    for (size_t at = 0; (at = line.find('@', at)) != std::string::npos;) {
      line.replace(at, 1, session.id);
    }
    if (monitor.has_client()) monitor.send(line);
    session.step(700 * kMillisecond);
    const machine::BalloonView view = session.balloon.view();
    const bool unreachable = view.link == machine::BalloonView::Link::kUnreachable;
    BALLAST_CHECK(unreachable == !view.problem.empty());
    BALLAST_CHECK(std::ranges::all_of(view.problem, [](char c) { return c >= ' ' && c <= '~'; }));
  }
  return 0;
}
