// HistoryDb: a day of samples in one SQLite file. One thread only.
//
// Host samples every 10 s; VM samples every 10 s for the last hour, then one a minute, so that a
// day of 200 VMs stays below 30 MB. Nothing in it is precious: a file that cannot be read is moved
// aside, never mended.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/result.h"
#include "model/report.h"

struct sqlite3;
struct sqlite3_stmt;

namespace ballast::web {

inline constexpr uint64_t kSampleSeconds = 10;
inline constexpr uint64_t kHistorySeconds = 86'400;
inline constexpr uint64_t kFineSeconds = 3'600;  // VM samples older than this are thinned out
inline constexpr uint64_t kCoarseSeconds = 60;
inline constexpr uint64_t kPointsMax = 2'000;  // of one series in one answer

struct HistoryQuery {
  uint64_t since = 0;  // Unix seconds
  uint64_t until = 0;
  uint64_t step = kSampleSeconds;  // seconds that one point stands for
  std::string vm;                  // of this VM alone
  bool all_vms = false;            // consumed_bytes of each
};

class HistoryDb {
 public:
  // Makes the file when it is not there. An Error with system_error EILSEQ: it is damaged or of
  // another kind.
  static Result<std::unique_ptr<HistoryDb>> open(const std::string& path);
  ~HistoryDb();
  HistoryDb(const HistoryDb&) = delete;
  HistoryDb& operator=(const HistoryDb&) = delete;

  // One moment; a second one within the same 10 s replaces it.
  Status add(const HostReport& host, uint64_t unix_seconds);
  // Removes what is too old, thins out what is old.
  Status prune(uint64_t now);
  // {"step":…,"times":[…],"host":{"consumed_bytes":[…],…},"vms":{"web1":{…}}}; null where there is
  // no sample.
  Result<nlohmann::json> read(const HistoryQuery& query);

 private:
  class Statement;
  explicit HistoryDb(sqlite3* db) : db_(db) {}
  Status prepare();
  Status run(const char* sql);
  Error error(const char* what) const;
  Result<int64_t> vm_id(const VmSpec& spec);
  Status add_rows(const HostReport& host, uint64_t time);
  Status read_host(const HistoryQuery& query, nlohmann::json& answer);
  Status read_vms(const HistoryQuery& query, nlohmann::json& answer);

  sqlite3* const db_;
};

}  // namespace ballast::web
