#include "top/terminal.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

namespace ballast::top {

namespace {

// Alternate screen, no cursor; and back.
constexpr std::string_view kEnterScreen = "\x1b[?1049h\x1b[?25l";
constexpr std::string_view kLeaveScreen = "\x1b[0m\x1b[?25h\x1b[?1049l";
constexpr std::array kEnding = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};
constexpr std::array kFatal = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};

// For the handler of fatal signals, which can be given nothing.
termios saved_mode;
volatile sig_atomic_t mode_is_saved = 0;

void restore_and_die(int signal_number) {
  if (mode_is_saved != 0) {
    tcsetattr(STDIN_FILENO, TCSANOW, &saved_mode);
    [[maybe_unused]] const ssize_t written =
        write(STDOUT_FILENO, kLeaveScreen.data(), kLeaveScreen.size());
  }
  signal(signal_number, SIG_DFL);
  raise(signal_number);
}

sigset_t handled_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int one : kEnding) sigaddset(&set, one);
  sigaddset(&set, SIGWINCH);
  sigaddset(&set, SIGTSTP);
  return set;
}

}  // namespace

Result<std::unique_ptr<Terminal>> Terminal::open() {
  if (isatty(STDIN_FILENO) == 0 || isatty(STDOUT_FILENO) == 0) {
    return Error{
        "ballast top needs a terminal for its screen and keys; into files and pipes use 'ballast "
        "top -b'"};
  }
  const char* type = std::getenv("TERM");
  if (type == nullptr || *type == '\0' || std::string_view(type) == "dumb") {
    return Error{fmt::format(
        "this terminal (TERM={}) cannot place text; use 'ballast top -b', or 'ballast ls'",
        type == nullptr ? "" : type)};
  }
  std::unique_ptr<Terminal> terminal(new Terminal());
  const char* no_colour = std::getenv("NO_COLOR");
  terminal->has_colours_ = no_colour == nullptr || *no_colour == '\0';
  const sigset_t set = handled_signals();
  sigprocmask(SIG_BLOCK, &set, nullptr);
  terminal->signals_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  if (terminal->signals_ < 0) return system_error("signalfd");
  if (tcgetattr(STDIN_FILENO, &saved_mode) != 0) return system_error("the terminal's settings");
  mode_is_saved = 1;
  for (const int one : kFatal) signal(one, restore_and_die);
  BALLAST_TRY_STATUS(terminal->take());
  return terminal;
}

Terminal::~Terminal() {
  give_back();
  mode_is_saved = 0;
  for (const int one : kFatal) signal(one, SIG_DFL);
  if (signals_ >= 0) close(signals_);
  const sigset_t set = handled_signals();
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
}

Status Terminal::take() {
  termios mode = saved_mode;
  mode.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);  // ^C and ^Z stay signals
  mode.c_iflag &= ~static_cast<tcflag_t>(IXON);
  mode.c_cc[VMIN] = 1;
  mode.c_cc[VTIME] = 0;
  if (tcsetattr(STDIN_FILENO, TCSANOW, &mode) != 0) return system_error("the terminal's settings");
  taken_ = true;
  forget();
  write_all(kEnterScreen);
  return Done{};
}

void Terminal::give_back() {
  if (!taken_) return;
  taken_ = false;
  write_all(kLeaveScreen);
  tcsetattr(STDIN_FILENO, TCSADRAIN, &saved_mode);
}

Size Terminal::size() const {
  winsize size{};
  const bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? Size{size.ws_col, size.ws_row} : Size{};
}

void Terminal::show(const std::string& screen) {
  std::string output;
  if (shown_.empty()) output += "\x1b[H\x1b[2J";
  std::vector<std::string> lines;
  for (size_t begin = 0; begin <= screen.size();) {
    const size_t end = std::min(screen.find('\n', begin), screen.size());
    lines.push_back(screen.substr(begin, end - begin));
    begin = end + 1;
  }
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i < shown_.size() && shown_[i] == lines[i]) continue;
    output += fmt::format("\x1b[{};1H\x1b[2K{}", i + 1, lines[i]);
  }
  if (lines.size() < shown_.size()) output += fmt::format("\x1b[{};1H\x1b[J", lines.size() + 1);
  shown_ = std::move(lines);
  if (!output.empty()) write_all(output);
}

// A terminal that takes nothing (^S over a slow line, a closed window) holds us up, not the daemon.
void Terminal::write_all(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(STDOUT_FILENO, text.data(), text.size());
    if (written > 0) {
      text.remove_prefix(static_cast<size_t>(written));
    } else if (errno == EAGAIN) {
      pollfd polled{STDOUT_FILENO, POLLOUT, 0};
      poll(&polled, 1, 1000);
    } else if (errno != EINTR) {
      return;
    }
  }
}

std::vector<int> Terminal::take_signals() {
  std::vector<int> result;
  signalfd_siginfo info{};
  while (read(signals_, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    result.push_back(static_cast<int>(info.ssi_signo));
  }
  return result;
}

void Terminal::suspend() {
  give_back();
  raise(SIGSTOP);  // until SIGCONT
  if (!take()) forget();
}

}  // namespace ballast::top
