#include "top/top.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <ostream>

#include "top/batch.h"
#include "top/keys.h"
#include "top/press.h"
#include "top/screen.h"
#include "top/source.h"
#include "top/terminal.h"

namespace ballast::top {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// Rates need two looks: the second one comes early.
constexpr milliseconds kFirstDelay{500};
// While the daemon is away.
constexpr milliseconds kRetryDelay{500};
// What follows an escape comes together with it, but for slow lines.
constexpr int kEscapePatienceMs = 50;

class Loop {
 public:
  Loop(Terminal& terminal, const TopOptions& options, View view)
      : terminal_(terminal), options_(options), view_(std::move(view)) {}

  int run() {
    while (!ending_) {
      if (Clock::now() >= next_update_) update_view();
      if (ending_) break;
      const Size size = terminal_.size();
      settle(view_, size);
      terminal_.show(render(view_, size, terminal_.has_colours()));
      wait();
    }
    return *ending_;
  }

 private:
  void update_view() {
    const Status updated = host_.update(view_.observation, options_.run_dir);
    view_.waiting = updated ? "" : updated.error().message;
    milliseconds delay = kRetryDelay;
    if (updated) {
      const auto now = std::chrono::system_clock::now().time_since_epoch();
      view_.unix_ms = static_cast<uint64_t>(std::chrono::duration_cast<milliseconds>(now).count());
      // Without its events a VM's story is still worth telling.
      (void)events_.update(view_, options_.run_dir);
      ++updates_;
      delay = milliseconds(static_cast<int64_t>(view_.settings.delay_seconds * 1000));
      if (updates_ == 1) delay = std::min(delay, kFirstDelay);
      if (options_.count != 0 && updates_ > options_.count) ending_ = 0;
    }
    next_update_ = Clock::now() + delay;
  }

  void wait() {
    std::array<pollfd, 2> polled = {{{STDIN_FILENO, POLLIN, 0}, {terminal_.signals(), POLLIN, 0}}};
    const auto left = std::chrono::ceil<milliseconds>(next_update_ - Clock::now()).count();
    int timeout = static_cast<int>(std::clamp<int64_t>(left, 0, 3'600'000));
    if (keys_.pending()) timeout = std::min(timeout, kEscapePatienceMs);
    const int found = poll(polled.data(), polled.size(), timeout);
    if (polled[1].revents != 0) take_signals();
    if (polled[0].revents != 0) {
      read_keys();
    } else if (found == 0) {
      press_all(keys_.flush());
    }
  }

  void read_keys() {
    std::array<char, 256> bytes;
    const ssize_t got = read(STDIN_FILENO, bytes.data(), bytes.size());
    if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN)) {
      ending_ = 0;  // the terminal is gone
      return;
    }
    if (got > 0) press_all(keys_.feed({bytes.data(), static_cast<size_t>(got)}));
  }

  void press_all(const std::vector<int>& keys) {
    for (const int key : keys) {
      const double delay = view_.settings.delay_seconds;
      carry_out(press(view_, key, terminal_.size()));
      if (delay != view_.settings.delay_seconds) next_update_ = Clock::now();
    }
  }

  void carry_out(Wish wish) {
    switch (wish) {
      case Wish::kNothing:
        return;
      case Wish::kQuit:
        ending_ = 0;
        return;
      case Wish::kUpdate:
        next_update_ = Clock::now();
        return;
      case Wish::kReadEvents:
        (void)events_.update(view_, options_.run_dir);  // as above
        return;
      case Wish::kRedraw:
        terminal_.forget();
        return;
      case Wish::kSave:
        save();
        return;
    }
  }

  void save() {
    const auto path = settings_path();
    const Status saved = path ? save_settings(view_.settings, *path) : Status(path.error());
    view_.note = saved ? "kept in " + *path : "not kept: " + saved.error().message;
  }

  void take_signals() {
    for (const int signal_number : terminal_.take_signals()) {
      if (signal_number == SIGWINCH) {
        terminal_.forget();
      } else if (signal_number == SIGTSTP) {
        terminal_.suspend();
      } else {
        ending_ = 128 + signal_number;  // as a shell tells of it
      }
    }
  }

  Terminal& terminal_;
  const TopOptions& options_;
  View view_;
  HostReader host_;
  EventReader events_;
  KeyDecoder keys_;
  Clock::time_point next_update_ = Clock::now();
  uint64_t updates_ = 0;
  std::optional<int> ending_;  // the exit status
};

}  // namespace

int run_top(const TopOptions& options, std::ostream& out, std::ostream& err) {
  if (options.batch) {
    return run_batch({.run_dir = options.run_dir,
                      .delay_seconds = options.delay_seconds.value_or(Settings().delay_seconds),
                      .count = options.count},
                     out, err);
  }
  View view;
  const auto path = settings_path();
  if (path) {
    auto settings = load_settings(*path);
    if (settings) view.settings = *std::move(settings);
    if (!settings) view.note = settings.error().message + "; the defaults are used";
  }
  if (options.delay_seconds) view.settings.delay_seconds = *options.delay_seconds;
  auto terminal = Terminal::open();
  if (!terminal) {
    err << "ballast: " << terminal.error().message << '\n';
    return 1;
  }
  return Loop(**terminal, options, std::move(view)).run();
}

}  // namespace ballast::top
