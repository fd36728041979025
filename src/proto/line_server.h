// LineServer: a Unix socket whose clients send lines of JSON and get one line back for each.
//
// Made for a single-threaded poll loop: add_pollfds() before poll(), handle() after it. All calls
// from that one thread; none blocks, none throws. Clients are strangers: their number, the length
// of a line, what they leave unread and how long they may be silent are bounded, and a client that
// oversteps gets one error line, if it still reads, and is closed. While a client has not taken its
// answer, nothing more is read from it.
//
//   LineServer::listen(path, {}) → add_pollfds(fds) → poll(fds, timeout_ms(now)) → handle(fds,
//   handler, now) → …
//
// The socket file has mode 0660 and is removed by the destructor if it is still ours. A file left
// behind by a dead daemon is replaced; one that somebody answers on is not.
#pragma once

#include <poll.h>
#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/units.h"

namespace ballast::proto {

struct LineServerLimits {
  size_t clients = 32;
  size_t line_bytes = size_t{64} << 10;   // of a request, newline not counted
  size_t answer_bytes = size_t{8} << 20;  // a longer answer becomes an error
  Nanoseconds idle = 60 * kSecond;        // without a byte in either direction
};

// Who is at the other end, as the kernel noted it at connect().
struct Peer {
  uid_t uid = static_cast<uid_t>(-1);
};

class LineServer {
 public:
  // Gets what one line parsed to (always valid JSON, not always an object), returns the answer.
  using Handler = std::function<nlohmann::json(const nlohmann::json& request, const Peer& peer)>;

  static Result<std::unique_ptr<LineServer>> listen(const std::string& path,
                                                    LineServerLimits limits = {});
  LineServer(const LineServer&) = delete;
  LineServer& operator=(const LineServer&) = delete;
  ~LineServer();

  // Appends the descriptors to wait for.
  void add_pollfds(std::vector<pollfd>& polled) const;
  // How long poll() may wait before an idle client has to go; −1: nobody to wait for.
  int timeout_ms(Nanoseconds now) const;
  // Serves what poll() found. `polled` may hold the descriptors of others too.
  void handle(std::span<const pollfd> polled, const Handler& handler, Nanoseconds now);

  size_t clients() const { return clients_.size(); }
  const std::string& path() const { return path_; }

 private:
  struct Client;

  LineServer(std::string path, LineServerLimits limits, int listener);
  void accept_clients(Nanoseconds now);
  void receive(Client& client, Nanoseconds now);
  void serve_lines(Client& client, const Handler& handler, Nanoseconds now);
  void serve_line(Client& client, size_t length, const Handler& handler, Nanoseconds now);
  void dismiss(Client& client, const std::string& why, Nanoseconds now);
  void send_pending(Client& client, Nanoseconds now);
  void queue_answer(Client& client, const nlohmann::json& answer);

  const std::string path_;
  const LineServerLimits limits_;
  const int listener_;
  dev_t device_ = 0;  // of the socket file, to remove only our own
  ino_t inode_ = 0;
  bool out_of_descriptors_ = false;  // accept() failed for want of them: look again after a while
  Nanoseconds retry_accept_at_ = 0;
  std::vector<std::unique_ptr<Client>> clients_;
};

}  // namespace ballast::proto
