#include "daemon/members.h"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

namespace ballast::daemon {

namespace {

// When the process started, in clock ticks since boot: tells it from a later one with the same
// number. 0: gone.
uint64_t start_time(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string text;
  std::getline(file, text);
  const size_t name_end = text.rfind(')');  // the name may hold anything
  if (name_end == std::string::npos) return 0;
  std::istringstream fields(text.substr(name_end + 1));
  std::string field;
  uint64_t start = 0;
  for (int number = 3; number < 22 && fields >> field; ++number) {
  }
  fields >> start;
  return start;
}

// The memory in nameless tmpfs files that the process holds: guest RAM, tables, compression cache,
// discard bitmap, share pool. A file counts once, for the first process that holds it.
uint64_t held_bytes(pid_t pid, std::set<std::pair<uint64_t, uint64_t>>& seen) {
  uint64_t bytes = 0;
  std::error_code problem;
  for (const auto& entry :
       std::filesystem::directory_iterator(fmt::format("/proc/{}/fd", pid), problem)) {
    struct stat info {};
    struct statfs where {};
    if (stat(entry.path().c_str(), &info) != 0 || statfs(entry.path().c_str(), &where) != 0)
      continue;
    if (where.f_type != TMPFS_MAGIC || !S_ISREG(info.st_mode)) continue;
    if (seen.insert({info.st_dev, info.st_ino}).second)
      bytes += static_cast<uint64_t>(info.st_blocks) * 512;
  }
  return bytes;
}

}  // namespace

Members::Members(std::string run_dir, engine::Ledger& ledger)
    : path_(std::move(run_dir) + "/members"), ledger_(ledger) {}

void Members::expect(const std::string& name, pid_t pid, uint64_t overhead_bytes, Files& seen) {
  auto process = linux_machine::VmProcess::of_pid(pid);
  if (!process) return;
  const uint64_t bytes = held_bytes(pid, seen) + overhead_bytes;
  ledger_.charge_existing(bytes);
  absent_.push_back({name, std::move(*process), bytes, overhead_bytes});
}

void Members::expect_the_last_daemons() {
  std::ifstream file(path_);
  std::string line;
  Files seen;
  while (std::getline(file, line)) {
    std::istringstream fields(line);
    pid_t pid = 0;
    uint64_t started = 0;
    uint64_t overhead_bytes = 0;
    std::string name;
    if (!(fields >> pid >> started >> overhead_bytes >> name) || pid <= 0 || started == 0) continue;
    if (start_time(pid) == started) expect(name, pid, overhead_bytes, seen);
  }
}

void Members::returned(const std::string& name, pid_t pid) {
  const auto found = std::find_if(absent_.begin(), absent_.end(), [&](const Absent& member) {
    return member.name == name && member.process.pid() == pid;
  });
  if (found == absent_.end()) return;
  ledger_.add_credit(found->bytes);
  returning_overhead_ = found->overhead_bytes;
  absent_.erase(found);
}

void Members::failed_to_take_over(const std::string& name, pid_t pid) {
  ledger_.drop_credit();
  Files seen;
  expect(name, pid, returning_overhead_, seen);
}

void Members::bury_the_dead() {
  std::erase_if(absent_, [this](const Absent& member) {
    if (member.process.is_alive()) return false;
    ledger_.uncharge(member.bytes);
    return true;
  });
}

void Members::add(const std::string& name, pid_t pid, uint64_t overhead_bytes) {
  present_[name] = {pid, overhead_bytes};
  write();
}

void Members::remove(const std::string& name) {
  present_.erase(name);
  write();
}

void Members::write() const {
  const std::string draft = path_ + ".new";
  {
    std::ofstream file(draft, std::ios::trunc);
    const auto line = [&file](const std::string& name, pid_t pid, uint64_t overhead_bytes) {
      file << pid << ' ' << start_time(pid) << ' ' << overhead_bytes << ' ' << name << '\n';
    };
    for (const auto& [name, member] : present_) line(name, member.pid, member.overhead_bytes);
    for (const Absent& member : absent_)
      line(member.name, member.process.pid(), member.overhead_bytes);
  }
  // Should this fail, only the next daemon's first second is less exact.
  (void)std::rename(draft.c_str(), path_.c_str());
}

}  // namespace ballast::daemon
