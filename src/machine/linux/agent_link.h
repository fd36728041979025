// AgentLink: the daemon's end of the connection to one agent: messages in and out
// (proto/agent_wire.h).
//
// Receives hand-offs, discard notices and results, sends verdicts and requests. The peer is not
// trusted: lengths are bounded, descriptors that nobody asked for are closed, and anything unknown
// ends the connection. Never blocks, except send_accept and send_refuse, for at most a second. One
// thread at a time; after admission that is the VM's worker.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "machine/linux/unique_fd.h"
#include "proto/agent_wire.h"

namespace ballast::linux_machine {

struct HandOffMessage {
  std::string text;
  std::vector<UniqueFd> descriptors;
};

class AgentLink {
 public:
  explicit AgentLink(UniqueFd socket) : socket_(std::move(socket)) {}

  struct Received {
    bool discards = false;          // at least one notice
    bool hand_off_arrived = false;  // then `hand_off` holds it
    HandOffMessage hand_off;
    // Of send_share and send_home: one errno, or 0, per range, in the order they were sent.
    std::vector<uint32_t> remapped;
    bool closed = false;
  };
  // Takes what is there. An error says what was wrong with it: refuse and close.
  Result<Received> receive();

  // Verdicts. `kept` are read-only descriptors for the agent to keep (agent_wire.h), or none if it
  // has them.
  Status send_accept(std::span<const int> kept);
  Status send_refuse(std::string_view text);
  // False if the request was dropped because the agent is behind.
  bool send_sample(std::span<const AgentRange> ranges);
  // Changes of mappings, at most kAgentRemapRangesMax; false as above. Each range has its result.
  bool send_share(std::span<const AgentShareRange> ranges);
  bool send_home(std::span<const AgentRange> ranges);

  int fd() const { return socket_.get(); }

 private:
  Result<size_t> read_some(std::vector<UniqueFd>& descriptors);
  Status send_all(std::span<const std::byte> bytes, std::span<const int> descriptors);
  bool flush();
  template <typename Range>
  bool send_request(AgentMessageKind kind, std::span<const Range> ranges);
  Result<size_t> take_message(std::string_view bytes, Received& received);

  UniqueFd socket_;
  std::string inbox_;             // bytes of a message that is not whole yet
  std::string outbox_;            // the rest of a request that the socket took in part
  std::deque<uint32_t> awaited_;  // ranges of each remapping request without its results
  bool closed_ = false;
};

}  // namespace ballast::linux_machine
