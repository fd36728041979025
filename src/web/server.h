// Server: the HTTP thread's loop: connections, their limits and time-outs, answers that have to be
// waited for, event streams.
//
// One thread serves all: libmicrohttpd parses and never blocks; a request that needs the main
// thread or the history is suspended until its answer is there or its time is over. Clients are
// strangers: their number, the bytes of a head and of a body, requests per second, and the time
// each part may take are bounded.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "web/api.h"
#include "web/history.h"
#include "web/say.h"
#include "web/web_config.h"

struct MHD_Connection;
struct MHD_Daemon;
struct MHD_Response;

namespace ballast::web {

struct ServerLimits {
  unsigned connections = 128;
  size_t head_bytes = size_t{16} << 10;  // request line and headers
  size_t body_bytes = size_t{64} << 10;
  Nanoseconds head_time = 5 * kSecond;  // from connecting to the last header
  Nanoseconds body_time = 5 * kSecond;
  Nanoseconds send_time = 20 * kSecond;    // for the client to take a reply
  Nanoseconds idle_time = 15 * kSecond;    // between two requests
  Nanoseconds answer_time = 3 * kSecond;   // for the main thread or the history
  size_t unsent_bytes = size_t{16} << 20;  // of all replies that clients have not taken
  size_t streams = 16;
  size_t stream_bytes = size_t{256} << 10;  // events that a stream's client has not taken
  Nanoseconds heartbeat = 5 * kSecond;      // of a stream
  double requests_per_second = 200;
  double requests_at_once = 400;
};

class Server {
 public:
  // `history` may be null.
  Server(const WebConfig& config, const Api& api, Desk& desk, History* history, Say say,
         ServerLimits limits = {});
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Until `stopping` is true and the desk's bell was rung. A port that is taken is tried again.
  void run(const std::atomic<bool>& stopping);
  uint16_t port() const { return port_; }  // where it listens; 0: not yet. Any thread.

 private:
  enum class Phase { kHead, kBody, kWaiting, kSending, kStreaming, kIdle };
  struct Exchange;  // one request
  struct Peer;      // one connection
  friend struct ServerCallbacks;

  void try_listen();
  void turn(int timeout_ms);
  int timeout_ms() const;
  void take_samples();
  void take_answers();
  void feed_streams();
  void resume(Exchange& exchange);
  Nanoseconds allowed_time(Phase phase) const;
  void close_slow_peers();
  void stop();

  // From libmicrohttpd, within turn().
  int begin(Exchange& exchange);
  int take_body(Exchange& exchange, const char* data, size_t size);
  int reply_to(Exchange& exchange);
  void carry_out(Exchange& exchange, Plan plan);
  std::optional<Reply> stream_or_refuse(Exchange& exchange, uint64_t since);
  std::function<std::optional<Reply>()> wait_for_snapshot(FromSnapshot wanted);
  std::function<std::optional<Reply>()> wait_for_daemon(FromDaemon wanted);
  std::function<std::optional<Reply>()> wait_for_history(const FromHistory& wanted);
  int send(Exchange& exchange, const Reply& wanted);
  int send_stream(Exchange& exchange);
  long read_stream(Exchange& exchange, char* buffer, size_t size);
  View* fresh_view();

  const WebConfig config_;
  const Api& api_;
  Desk& desk_;
  History* const history_;
  const Say say_;
  const ServerLimits limits_;
  MHD_Daemon* daemon_ = nullptr;
  std::atomic<uint16_t> port_ = 0;
  Nanoseconds next_try_ = 0;  // to listen
  bool said_taken_ = false;
  RateLimit rate_;
  std::unique_ptr<View> view_;  // of the newest snapshot that was asked for
  uint64_t sampled_ = 0;        // the newest snapshot the history got
  size_t unsent_bytes_ = 0;
  bool resumed_ = false;  // something, in this turn
  std::set<Exchange*> waiting_;
  std::set<Exchange*> streams_;
  std::map<MHD_Connection*, Peer> peers_;
  Nanoseconds swept_ = 0;
};

}  // namespace ballast::web
