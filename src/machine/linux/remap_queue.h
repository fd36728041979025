// RemapQueue: the changes of mappings that were asked of one VM's agent, in order, from request to
// end. Requests of one kind that follow each other travel in one message. The VM's worker only.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "machine/guest_memory.h"
#include "proto/agent_wire.h"

namespace ballast::linux_machine {

class RemapQueue {
 public:
  // Requests without a fetched end.
  static constexpr size_t kRequestsMax = 64;
  using Kind = machine::Remapped::Kind;
  // False: not now. Must not block.
  struct Senders {
    std::function<bool(std::span<const AgentShareRange>)> share;
    std::function<bool(std::span<const AgentRange>)> home;
  };
  struct Request {
    Kind kind = Kind::kShare;
    PageRun run;
    bool done = false;  // every range was
    uint32_t ranges = 0;
    uint32_t answered = 0;
  };

  explicit RemapQueue(Senders senders) : senders_(std::move(senders)) {}
  bool usable() const { return senders_.share != nullptr && senders_.home != nullptr; }

  // False: no room, or the agent takes nothing; try again later. No ranges at all: refused, which
  // is an end as others.
  bool add_share(PageRun run, std::span<const AgentShareRange> ranges);
  bool add_home(PageRun run, std::span<const AgentRange> ranges);
  // Sends what was added. False if something is left.
  bool flush();
  // One error number per range that was sent, in order; never more than were.
  void take_results(std::span<const uint32_t> errors);
  // The oldest request, if it came to its end.
  bool pop(Request& request);
  // The agent will answer nothing any more.
  void lose();
  bool take_lost() { return std::exchange(lost_, false); }

 private:
  bool make_room(Kind kind, size_t ranges);
  void add(Kind kind, PageRun run, size_t ranges);

  Senders senders_;
  std::deque<Request> requests_;
  std::vector<AgentShareRange> shares_;  // not sent yet; one of the two is empty
  std::vector<AgentRange> homes_;
  size_t awaited_ = 0;  // ranges that were sent and not answered
  bool lost_ = false;
};

}  // namespace ballast::linux_machine
