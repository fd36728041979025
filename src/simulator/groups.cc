#include "simulator/groups.h"

#include <fmt/format.h>

#include <algorithm>

#include "simulator/verdict.h"

namespace ballast::simulator {

using engine::ShareGroup;
using machine::sim::SimSharePool;

namespace {

// The daemon's view of a pool that is not its own.
class BorrowedPool final : public machine::SharePool {
 public:
  explicit BorrowedPool(SimSharePool& pool) : pool_(pool) {}
  uint32_t frame_count() const override { return pool_.frame_count(); }
  std::span<std::byte, kPageBytes> frame(FrameIndex frame) override { return pool_.frame(frame); }
  void release(FrameRun run) override { pool_.release(run); }
  void find_present(std::vector<FrameRun>& present) override { pool_.find_present(present); }

 private:
  SimSharePool& pool_;
};

}  // namespace

Groups::Group& Groups::find_or_make(const std::string& name) {
  const auto found = std::ranges::find(groups_, name, &Group::name);
  if (found != groups_.end()) return *found;
  groups_.push_back({name, std::make_unique<SimSharePool>(world_, pools_++, frames_), nullptr});
  return groups_.back();
}

SimSharePool& Groups::pool(const std::string& name) { return *find_or_make(name).pool; }

Groups::Membership Groups::enter(const std::string& name, uint32_t pages, engine::Ledger& ledger) {
  Group& group = find_or_make(name);
  if (!group.made) {
    group.made =
        std::make_unique<ShareGroup>(name, std::make_unique<BorrowedPool>(*group.pool), ledger,
                                     engine::PageHasher(world_.random().next(), hash_bits_));
  }
  return {group.made.get(), group.made->enter(pages, {})};
}

void Groups::end_recovery() {
  for (const Group& group : groups_) {
    if (group.made) group.made->end_recovery();
  }
}

void Groups::tidy() {
  std::erase_if(groups_, [](const Group& group) {
    if (group.made && group.made->members() > 0) return false;
    if (group.made && group.pool->frames() > 0) {
      fail(Verdict::kOverBudget, fmt::format("group {} has no members, but keeps {} frames",
                                             group.name, group.pool->frames()));
    }
    return true;
  });
}

void Groups::end_daemon() {
  for (Group& group : groups_) group.made.reset();
}

std::vector<std::unique_ptr<ShareGroup>> Groups::bury() {
  std::vector<std::unique_ptr<ShareGroup>> dead;
  for (Group& group : groups_) dead.push_back(std::move(group.made));
  return dead;
}

uint64_t Groups::pool_bytes() const {
  uint64_t frames = 0;
  for (const Group& group : groups_) frames += group.pool->frames();
  return pages_to_bytes(frames);
}

void Groups::audit(const ShareGroup& group, const std::vector<uint32_t>& named) const {
  uint64_t used = 0;
  for (uint32_t frame = 0; frame < named.size(); ++frame) {
    used += named[frame] > 0 ? 1 : 0;
    if (group.references(FrameIndex(frame)) == named[frame]) continue;
    fail(Verdict::kCrash,
         fmt::format("{} pages name frame {} of group {}, which counts {}", named[frame], frame,
                     group.name(), group.references(FrameIndex(frame))));
  }
  const auto at = std::ranges::find(groups_, group.name(), &Group::name);
  if (at->pool->frames() != used || group.frames() != used) {
    fail(Verdict::kOverBudget,
         fmt::format("{} frames of group {} are named, {} charged, {} take memory", used,
                     group.name(), group.frames(), at->pool->frames()));
  }
}

}  // namespace ballast::simulator
