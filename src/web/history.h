// History: the thread that keeps samples in a HistoryDb and reads them back. Nobody waits for its
// disk.
//
// A damaged file is moved aside, said once, and a new one begun; a full disk is said once, and
// samples are missing until there is room again. All functions: any thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "web/desk.h"
#include "web/history_db.h"
#include "web/say.h"

namespace ballast::web {

class History {
 public:
  // `answered` is called on the history's thread after an answer is there.
  History(std::string path, Say say, std::function<void()> answered);
  ~History();  // waits for the job under way
  History(const History&) = delete;
  History& operator=(const History&) = delete;

  void add(std::shared_ptr<const Snapshot> snapshot);

  struct Asked {
    HistoryQuery query;
    std::optional<Result<nlohmann::json>> answer;  // the history's lock guards it
  };
  // Nothing when too many wait already.
  std::shared_ptr<Asked> ask(const HistoryQuery& query);
  std::optional<Result<nlohmann::json>> answer_of(const Asked& asked) const;

 private:
  static constexpr size_t kSamplesMax = 6;  // more wait only when the disk stands still
  static constexpr size_t kAskedMax = 8;

  void run();
  void open();
  void keep(const Snapshot& snapshot);
  void failed(const Error& error);
  Result<nlohmann::json> read(const HistoryQuery& query);

  const std::string path_;
  const Say say_;
  const std::function<void()> answered_;
  // The thread's own.
  std::unique_ptr<HistoryDb> db_;
  bool said_damaged_ = false;
  bool said_failed_ = false;
  uint64_t pruned_ = 0;

  mutable std::mutex lock_;  // guards what follows
  std::condition_variable changed_;
  std::deque<std::shared_ptr<const Snapshot>> samples_;
  std::deque<std::shared_ptr<Asked>> asked_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace ballast::web
