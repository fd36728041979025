#include "web/history.h"

#include <sys/prctl.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

namespace ballast::web {

namespace {

constexpr uint64_t kPruneSeconds = 60;

}  // namespace

History::History(std::string path, Say say, std::function<void()> answered)
    : path_(std::move(path)),
      say_(std::move(say)),
      answered_(std::move(answered)),
      thread_([this] { run(); }) {}

History::~History() {
  {
    const std::lock_guard hold(lock_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void History::add(std::shared_ptr<const Snapshot> snapshot) {
  {
    const std::lock_guard hold(lock_);
    if (samples_.size() >= kSamplesMax) return;
    samples_.push_back(std::move(snapshot));
  }
  changed_.notify_one();
}

std::shared_ptr<History::Asked> History::ask(const HistoryQuery& query) {
  auto asked = std::make_shared<Asked>();
  asked->query = query;
  {
    const std::lock_guard hold(lock_);
    if (asked_.size() >= kAskedMax) return nullptr;
    asked_.push_back(asked);
  }
  changed_.notify_one();
  return asked;
}

std::optional<Result<nlohmann::json>> History::answer_of(const Asked& asked) const {
  const std::lock_guard hold(lock_);
  return asked.answer;
}

void History::run() {
  prctl(PR_SET_NAME, "history");
  open();
  std::unique_lock hold(lock_);
  while (true) {
    changed_.wait(hold, [this] { return stopping_ || !samples_.empty() || !asked_.empty(); });
    if (stopping_) return;
    if (!samples_.empty()) {
      const auto snapshot = std::move(samples_.front());
      samples_.pop_front();
      hold.unlock();
      keep(*snapshot);
      hold.lock();
      continue;
    }
    const auto asked = std::move(asked_.front());
    asked_.pop_front();
    hold.unlock();
    Result<nlohmann::json> answer = read(asked->query);
    hold.lock();
    asked->answer = std::move(answer);
    hold.unlock();
    answered_();
    hold.lock();
  }
}

void History::open() {
  std::error_code problem;
  std::filesystem::create_directories(std::filesystem::path(path_).parent_path(), problem);
  auto opened = HistoryDb::open(path_);
  if (!opened && opened.error().system_error == EILSEQ) {
    const std::string aside = path_ + ".damaged";
    rename(path_.c_str(), aside.c_str());
    // Its log would be taken for the new file's.
    std::filesystem::remove(path_ + "-wal", problem);
    std::filesystem::remove(path_ + "-shm", problem);
    if (!said_damaged_) {
      say_(Severity::kWarning, "history.damaged",
           fmt::format("the history cannot be read ({}); it was moved to {} and a new one begun",
                       opened.error().message, aside));
    }
    said_damaged_ = true;
    opened = HistoryDb::open(path_);
  }
  if (opened) {
    db_ = std::move(opened).value();
  } else {
    failed(opened.error());
  }
}

void History::failed(const Error& error) {
  // What cannot be used any more is opened anew with the next sample.
  db_.reset();
  if (said_failed_) return;
  said_failed_ = true;
  say_(Severity::kWarning, "history.failed",
       fmt::format(
           "the history is not kept for now: {}; make room or mend {}, and it goes on by itself",
           error.message, path_));
}

void History::keep(const Snapshot& snapshot) {
  if (!db_) open();
  if (!db_) return;
  const uint64_t now = snapshot.unix_ms / 1000;
  Status kept = db_->add(snapshot.host, now);
  if (kept && now - std::min(now, pruned_) >= kPruneSeconds) {
    pruned_ = now;
    kept = db_->prune(now);
  }
  if (!kept) return failed(kept.error());
  if (said_failed_) say_(Severity::kInfo, "history.kept", "the history is kept again");
  said_failed_ = false;
}

Result<nlohmann::json> History::read(const HistoryQuery& query) {
  if (!db_) return Error{"there is no history now; 'ballast events' says why"};
  auto answer = db_->read(query);
  if (!answer) failed(answer.error());
  return answer;
}

}  // namespace ballast::web
