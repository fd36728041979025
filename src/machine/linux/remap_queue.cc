#include "machine/linux/remap_queue.h"

#include <algorithm>

#include "base/check.h"

namespace ballast::linux_machine {

bool RemapQueue::make_room(Kind kind, size_t ranges) {
  // Who has not heard of the loss yet would take the new request for one of the lost.
  if (lost_ || requests_.size() == kRequestsMax) return false;
  const size_t same = kind == Kind::kShare ? shares_.size() : homes_.size();
  const size_t other = kind == Kind::kShare ? homes_.size() : shares_.size();
  return (other == 0 && same + ranges <= kAgentRemapRangesMax) || flush();
}

void RemapQueue::add(Kind kind, PageRun run, size_t ranges) {
  requests_.push_back({kind, run, ranges > 0, static_cast<uint32_t>(ranges), 0});
}

bool RemapQueue::add_share(PageRun run, std::span<const AgentShareRange> ranges) {
  if (!make_room(Kind::kShare, ranges.size())) return false;
  shares_.insert(shares_.end(), ranges.begin(), ranges.end());
  add(Kind::kShare, run, ranges.size());
  return true;
}

bool RemapQueue::add_home(PageRun run, std::span<const AgentRange> ranges) {
  if (!make_room(Kind::kHome, ranges.size())) return false;
  homes_.insert(homes_.end(), ranges.begin(), ranges.end());
  add(Kind::kHome, run, ranges.size());
  return true;
}

bool RemapQueue::flush() {
  if (!shares_.empty()) {
    if (!senders_.share(shares_)) return false;
    awaited_ += shares_.size();
    shares_.clear();
  }
  if (!homes_.empty()) {
    if (!senders_.home(homes_)) return false;
    awaited_ += homes_.size();
    homes_.clear();
  }
  return true;
}

void RemapQueue::take_results(std::span<const uint32_t> errors) {
  BALLAST_CHECK_THAT(errors.size() <= awaited_, "{} results for {}", errors.size(), awaited_);
  awaited_ -= errors.size();
  for (Request& request : requests_) {
    const size_t count = std::min<size_t>(request.ranges - request.answered, errors.size());
    for (const uint32_t error : errors.first(count)) request.done = request.done && error == 0;
    request.answered += static_cast<uint32_t>(count);
    errors = errors.subspan(count);
    if (errors.empty()) return;
  }
}

bool RemapQueue::pop(Request& request) {
  if (requests_.empty() || requests_.front().answered < requests_.front().ranges) return false;
  request = requests_.front();
  requests_.pop_front();
  return true;
}

void RemapQueue::lose() {
  if (!requests_.empty()) lost_ = true;
  requests_.clear();
  shares_.clear();
  homes_.clear();
  awaited_ = 0;
}

}  // namespace ballast::linux_machine
