// The terminal that `ballast top` runs in: raw keys, a screen of its own, and back again whatever
// happens: the destructor, a signal that ends or stops the program, and an abort all restore it.
//
// One at a time. Signals are blocked and come out of signals().
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "top/view.h"

namespace ballast::top {

class Terminal {
 public:
  // Refuses what is no terminal, or one that cannot place text.
  static Result<std::unique_ptr<Terminal>> open();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;
  ~Terminal();

  Size size() const;
  bool has_colours() const { return has_colours_; }
  // Writes the lines that differ from the last screen.
  void show(const std::string& screen);
  void forget() { shown_.clear(); }  // the next show() writes everything

  int signals() const { return signals_; }  // a signalfd, for poll()
  // The signals that came: SIGWINCH, SIGTSTP, or one that ends the program.
  std::vector<int> take_signals();
  // Stops the program as SIGTSTP does, and takes the terminal again when it goes on.
  void suspend();

 private:
  Terminal() = default;
  Status take();
  void give_back();
  static void write_all(std::string_view text);

  int signals_ = -1;
  bool has_colours_ = false;
  bool taken_ = false;
  std::vector<std::string> shown_;
};

}  // namespace ballast::top
