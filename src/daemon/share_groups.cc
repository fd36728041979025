#include "daemon/share_groups.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "base/check.h"

namespace ballast::daemon {

using linux_machine::LinuxSharePool;
using linux_machine::UniqueFd;

Result<ShareGroups::Entry> ShareGroups::make(const std::string& name,
                                             std::unique_ptr<LinuxSharePool> pool) {
  uint64_t seed = 0;
  BALLAST_CHECK(getentropy(&seed, sizeof(seed)) == 0);
  LinuxSharePool* raw = pool.get();
  groups_.push_back({std::make_unique<engine::ShareGroup>(name, std::move(pool), ledger_,
                                                          engine::PageHasher(seed)),
                     raw});
  return Entry{groups_.back().group.get(), raw};
}

Result<ShareGroups::Entry> ShareGroups::of_new(const std::string& name) {
  for (const Owned& owned : groups_) {
    if (owned.group->name() == name) return Entry{owned.group.get(), owned.pool};
  }
  // All frames are charged: there can never be more than the budget has.
  const auto frames =
      static_cast<uint32_t>(std::min<uint64_t>(pages_floor(ledger_.budget()), UINT32_MAX));
  BALLAST_TRY(auto pool, LinuxSharePool::create(name, frames));
  return make(name, std::move(pool));
}

Result<ShareGroups::Entry> ShareGroups::of_returned(const std::string& name, UniqueFd fd) {
  BALLAST_TRY(auto pool, LinuxSharePool::adopt(std::move(fd)));
  for (const Owned& owned : groups_) {
    if (owned.pool->identity() == pool->identity() && owned.group->name() == name) {
      return Entry{owned.group.get(), owned.pool};
    }
    if (owned.pool->identity() == pool->identity()) {
      return Error{fmt::format("it came back with the pool of the salt group {}, but is of {}",
                               owned.group->name(), name)};
    }
  }
  return make(name, std::move(pool));
}

void ShareGroups::tidy() {
  std::erase_if(groups_, [](const Owned& owned) { return owned.group->members() == 0; });
}

void ShareGroups::end_recovery() {
  for (const Owned& owned : groups_) owned.group->end_recovery();
}

double cpu_ghz() {
  std::ifstream file("/proc/cpuinfo");
  double sum = 0;
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("cpu MHz")) continue;
    sum += std::strtod(line.c_str() + line.find(':') + 1, nullptr) / 1000;
  }
  return sum;
}

}  // namespace ballast::daemon
