// QmpClient: one connection to the monitor of one QEMU (QMP over a Unix socket), made for a
// single-threaded poll loop. Never blocks, never throws.
//
//   poll fd() for wanted(), at most until wake_at();
//   handle(now) if it reported anything; then tick(now) in any case: timeouts, connecting anew.
//
// The peer is not trusted: it must be the expected process; a line is at most kLineBytes long and
// bounded in depth; a flood is read at no more than kWindowBytes per kWindow. What is not QMP is
// counted, and at kGarbageLines the connection ends. After any failure it connects again, the pause
// doubling from kRetryMin to kRetryMax as long as connections do not last.
//
// One command at a time and no queue: who wants to send looks at what is most urgent when the
// monitor is free, and nothing outdated is ever sent.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "base/units.h"
#include "machine/linux/unique_fd.h"

namespace ballast::linux_machine {

struct QmpReply {
  const nlohmann::json& value;  // of "return"; null with an error
  std::string error_class;      // such as "DeviceNotActive"; empty: no error
  std::string error;            // QEMU's words, fit for a log line
  bool ok() const { return error_class.empty(); }
};

class QmpClient {
 public:
  static constexpr Nanoseconds kPatience = 5 * kSecond;  // for the greeting and for each reply
  static constexpr Nanoseconds kRetryMin = 1 * kSecond;
  static constexpr Nanoseconds kRetryMax = 30 * kSecond;
  static constexpr size_t kLineBytes = size_t{64} << 10;
  static constexpr int kDepth = 32;
  static constexpr int kGarbageLines = 10;
  static constexpr Nanoseconds kWindow = 100 * kMillisecond;
  static constexpr size_t kWindowBytes = size_t{64} << 10;

  enum class State : uint8_t {
    kApart,        // not connected, until it is time to try again
    kGreeting,     // connected; QEMU has to speak first
    kNegotiating,  // our answer to the greeting is under way
    kReady,        // commands may be sent
  };

  // Called from handle() and tick(). May call anything of the client but these two, and must not
  // destroy it.
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void on_ready() = 0;
    // A connection was lost or not to be had; problem() says why. A command under way gets no
    // reply.
    virtual void on_failure() = 0;
    virtual void on_event(const std::string& name, const nlohmann::json& data) = 0;
  };
  using OnReply = std::function<void(const QmpReply& reply)>;

  // `peer`: the process that must listen at `path`; 0: anybody.
  QmpClient(std::string path, pid_t peer, Listener& listener);
  QmpClient(const QmpClient&) = delete;
  QmpClient& operator=(const QmpClient&) = delete;

  int fd() const { return wanted() == 0 ? -1 : socket_.get(); }  // −1: nothing to wait for
  short wanted() const;                                          // POLLIN, POLLOUT
  Nanoseconds wake_at() const;                                   // when tick() has something to do
  void handle(Nanoseconds now);
  void tick(Nanoseconds now);

  bool can_execute() const { return state_ == State::kReady && !on_reply_; }
  // Only when can_execute().
  void execute(std::string_view command, const nlohmann::json& arguments, OnReply on_reply);
  // Ends the connection because of what the peer said.
  void hang_up(std::string_view why);

  State state() const { return state_; }
  // What went wrong last, for the operator; empty once a connection is ready.
  const std::string& problem() const { return problem_; }

 private:
  void connect();
  std::string check_peer(int fd) const;
  void send(std::string_view command, const nlohmann::json& arguments, OnReply on_reply);
  void send_pending();
  void receive();
  void take_line(std::string_view line);
  void take_message(const nlohmann::json& message);
  void take_reply(const nlohmann::json& message);
  void negotiate();
  void take_garbage();

  const std::string path_;
  const pid_t peer_;
  Listener& listener_;
  Nanoseconds now_ = 0;

  UniqueFd socket_;
  State state_ = State::kApart;
  std::string problem_;
  Nanoseconds retry_at_ = 0;
  Nanoseconds pause_ = 0;  // before the last retry
  Nanoseconds ready_at_ = 0;

  std::string input_;  // the beginning of a line
  std::string output_;
  OnReply on_reply_;  // of the command under way
  uint64_t id_ = 0;   // its name; never used twice
  Nanoseconds deadline_ = 0;
  int garbage_ = 0;  // lines of this connection

  Nanoseconds window_end_ = 0;
  size_t window_bytes_ = 0;
  bool flooded_ = false;  // nothing is read until window_end_
};

}  // namespace ballast::linux_machine
