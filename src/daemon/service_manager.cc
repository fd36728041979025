#include "daemon/service_manager.h"

#include <fmt/format.h>
#include <systemd/sd-daemon.h>

#include <ctime>

namespace ballast::daemon {

ServiceManager::ServiceManager() {
  uint64_t patience_us = 0;
  if (sd_watchdog_enabled(0, &patience_us) <= 0 || patience_us == 0) return;
  period_ = patience_us * kMicrosecond / 4;
  next_alive_ = 0;
}

void ServiceManager::send(const std::string& state) {
  // Nobody to tell is fine, and a full socket means that systemd is busy: the next round tells it.
  (void)sd_notify(0, state.c_str());
}

void ServiceManager::reloading() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);  // systemd compares it with its own
  const auto microseconds =
      static_cast<uint64_t>(now.tv_sec) * 1'000'000 + static_cast<uint64_t>(now.tv_nsec) / 1000;
  send(fmt::format("RELOADING=1\nMONOTONIC_USEC={}", microseconds));
}

void ServiceManager::status(const std::string& text) {
  if (text == status_) return;
  status_ = text;
  send("STATUS=" + text);
}

void ServiceManager::alive(Nanoseconds now) {
  if (period_ == 0 || now < next_alive_) return;
  next_alive_ = now + period_;
  send("WATCHDOG=1");
}

}  // namespace ballast::daemon
