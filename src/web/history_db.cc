#include "web/history_db.h"

#include <sqlite3.h>

#include <algorithm>
#include <array>
#include <span>

namespace ballast::web {

namespace {

using nlohmann::json;

// Another number: another schema. A file of another schema is moved aside as a damaged one is.
constexpr int kSchema = 1;

template <typename Report>
struct Series {
  const char* name;  // of the report's field, and of the column
  uint64_t (*value)(const Report&);
};

template <uint64_t VmReport::*field>
uint64_t sum_of(const HostReport& host) {
  uint64_t sum = 0;
  for (const VmReport& vm : host.vms) sum += vm.*field;
  return sum;
}

uint64_t state_number(const std::string& state);

constexpr Series<HostReport> kHostSeries[] = {
    {"state", [](const HostReport& h) { return state_number(h.state); }},
    {"budget_bytes", [](const HostReport& h) { return h.budget_bytes; }},
    {"consumed_bytes", [](const HostReport& h) { return h.consumed_bytes; }},
    {"free_bytes", [](const HostReport& h) { return h.free_bytes; }},
    {"resident_bytes", sum_of<&VmReport::resident_bytes>},
    {"share_part_bytes", sum_of<&VmReport::share_part_bytes>},
    {"arena_bytes", sum_of<&VmReport::arena_bytes>},
    {"shared_bytes", sum_of<&VmReport::shared_bytes>},
    {"compressed_bytes", sum_of<&VmReport::compressed_bytes>},
    {"swapped_bytes", sum_of<&VmReport::swapped_bytes>},
    {"ballooned_bytes", sum_of<&VmReport::ballooned_bytes>},
    {"waits", sum_of<&VmReport::waits>},
};

constexpr Series<VmReport> kVmSeries[] = {
    {"consumed_bytes", [](const VmReport& v) { return v.consumed_bytes; }},
    {"target_bytes", [](const VmReport& v) { return v.target_bytes; }},
    {"active_bytes", [](const VmReport& v) { return v.active_bytes; }},
    {"balloon_bytes", [](const VmReport& v) { return v.balloon_bytes; }},
    {"shared_bytes", [](const VmReport& v) { return v.shared_bytes; }},
    {"compressed_bytes", [](const VmReport& v) { return v.compressed_bytes; }},
    {"swapped_bytes", [](const VmReport& v) { return v.swapped_bytes; }},
    {"waits", [](const VmReport& v) { return v.waits; }},
};

constexpr std::array kStates = {"high", "clear", "soft", "hard", "low"};

uint64_t state_number(const std::string& state) {
  const auto found = std::ranges::find(kStates, state);
  return static_cast<uint64_t>(found - kStates.begin());
}

// Of several samples in one step: the worst state and the highest counter; of sizes the mean.
std::string columns(auto series, const char* format) {
  std::string text;
  for (const auto& one : series) text += fmt::format(fmt::runtime(format), one.name);
  return text;
}

std::string aggregates(auto series) {
  std::string text;
  for (const auto& one : series) {
    const std::string_view name = one.name;
    const bool is_size = name.ends_with("_bytes");
    text +=
        is_size ? fmt::format(", CAST(AVG({}) AS INTEGER)", name) : fmt::format(", MAX({})", name);
  }
  return text;
}

int64_t as_integer(uint64_t value) {
  return static_cast<int64_t>(std::min<uint64_t>(value, INT64_MAX));
}

bool is_damage(int code) {
  return (code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB;
}

}  // namespace

class HistoryDb::Statement {
 public:
  Statement(sqlite3* db, const std::string& sql) {
    code_ = sqlite3_prepare_v2(db, sql.c_str(), -1, &statement_, nullptr);
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  bool good() const { return code_ == SQLITE_OK; }
  void bind(int at, int64_t value) { sqlite3_bind_int64(statement_, at, value); }
  void bind(int at, const std::string& value) {
    sqlite3_bind_text(statement_, at, value.data(), static_cast<int>(value.size()),
                      SQLITE_TRANSIENT);
  }
  // True: a row; false: the end, or a failure, which good() tells.
  bool step() {
    if (!good()) return false;
    const int code = sqlite3_step(statement_);
    if (code != SQLITE_ROW && code != SQLITE_DONE) code_ = code;
    return code == SQLITE_ROW;
  }
  void reset() { sqlite3_reset(statement_); }
  int64_t integer(int column) const { return sqlite3_column_int64(statement_, column); }
  std::string text(int column) const {
    const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
    return text == nullptr ? std::string() : text;
  }

 private:
  sqlite3_stmt* statement_ = nullptr;
  int code_ = SQLITE_OK;
};

Error HistoryDb::error(const char* what) const {
  const int code = sqlite3_extended_errcode(db_);
  return Error{fmt::format("{}: {}", what, sqlite3_errmsg(db_)),
               is_damage(code) ? EILSEQ : ((code & 0xff) == SQLITE_FULL ? ENOSPC : EIO)};
}

Status HistoryDb::run(const char* sql) {
  if (sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) == SQLITE_OK) return Done{};
  return error("SQLite");
}

Result<std::unique_ptr<HistoryDb>> HistoryDb::open(const std::string& path) {
  sqlite3* raw = nullptr;
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
                    SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_EXRESCODE;
  const int code = sqlite3_open_v2(path.c_str(), &raw, flags, nullptr);
  std::unique_ptr<HistoryDb> db(new HistoryDb(raw));
  if (code != SQLITE_OK) return db->error(path.c_str());
  if (const Status ready = db->prepare(); !ready) {
    return Error{path + ": " + ready.error().message, ready.error().system_error};
  }
  return db;
}

HistoryDb::~HistoryDb() { sqlite3_close(db_); }

Status HistoryDb::prepare() {
  // A write-ahead log without a sync per sample: a power failure may cost the last minutes, which
  // nobody misses.
  BALLAST_TRY_STATUS(
      run("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-512;"
          "PRAGMA journal_size_limit=1048576; PRAGMA wal_autocheckpoint=250;"
          "PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON"));
  bool is_whole = false;
  {
    Statement check(db_, "PRAGMA quick_check(1)");
    is_whole = check.step() && check.text(0) == "ok";
  }
  if (!is_whole) return Error{"its pages contradict each other", EILSEQ};
  int64_t schema = 0;
  {
    Statement version(db_, "PRAGMA user_version");
    if (version.step()) schema = version.integer(0);
  }
  if (schema == kSchema) return Done{};
  if (schema != 0)
    return Error{fmt::format("it is of version {}, not {}", schema, kSchema), EILSEQ};
  const std::string sql = fmt::format(
      "BEGIN; CREATE TABLE host (time INTEGER PRIMARY KEY{});"
      "CREATE TABLE vm_name (id INTEGER PRIMARY KEY, name TEXT NOT NULL, uuid TEXT NOT NULL, "
      "UNIQUE (name, uuid));"
      "CREATE TABLE vm (time INTEGER, vm INTEGER{}, PRIMARY KEY (time, vm)) WITHOUT ROWID;"
      "PRAGMA user_version={}; COMMIT",
      columns(std::span(kHostSeries), ", {} INTEGER NOT NULL"),
      columns(std::span(kVmSeries), ", {} INTEGER NOT NULL"), kSchema);
  if (const Status made = run(sql.c_str()); !made) {
    // Tables that are there though the version says nothing are: somebody else's file.
    const bool is_full = made.error().system_error == ENOSPC;
    return Error{made.error().message, is_full ? ENOSPC : EILSEQ};
  }
  return Done{};
}

Result<int64_t> HistoryDb::vm_id(const VmSpec& spec) {
  {
    Statement find(db_, "SELECT id FROM vm_name WHERE name = ? AND uuid = ?");
    find.bind(1, spec.name);
    find.bind(2, spec.uuid);
    if (find.step()) return find.integer(0);
    if (!find.good()) return error("SQLite");
  }
  Statement insert(db_, "INSERT INTO vm_name (name, uuid) VALUES (?, ?)");
  insert.bind(1, spec.name);
  insert.bind(2, spec.uuid);
  insert.step();
  if (!insert.good()) return error("SQLite");
  return sqlite3_last_insert_rowid(db_);
}

Status HistoryDb::add_rows(const HostReport& host, uint64_t time) {
  Statement host_row(db_, fmt::format("INSERT OR REPLACE INTO host VALUES (?{})",
                                      columns(std::span(kHostSeries), ", ?")));
  int at = 1;
  host_row.bind(at++, as_integer(time));
  for (const auto& series : kHostSeries) host_row.bind(at++, as_integer(series.value(host)));
  host_row.step();
  if (!host_row.good()) return error("SQLite");

  Statement vm_row(db_, fmt::format("INSERT OR REPLACE INTO vm VALUES (?, ?{})",
                                    columns(std::span(kVmSeries), ", ?")));
  for (const VmReport& vm : host.vms) {
    BALLAST_TRY(const int64_t id, vm_id(vm.spec));
    at = 1;
    vm_row.bind(at++, as_integer(time));
    vm_row.bind(at++, id);
    for (const auto& series : kVmSeries) vm_row.bind(at++, as_integer(series.value(vm)));
    vm_row.step();
    if (!vm_row.good()) return error("SQLite");
    vm_row.reset();
  }
  return Done{};
}

Status HistoryDb::add(const HostReport& host, uint64_t unix_seconds) {
  BALLAST_TRY_STATUS(run("BEGIN"));
  Status added = add_rows(host, unix_seconds - unix_seconds % kSampleSeconds);
  if (added) added = run("COMMIT");
  if (!added) (void)run("ROLLBACK");  // the first failure is the one to tell
  return added;
}

Status HistoryDb::prune(uint64_t now) {
  const uint64_t oldest = now - std::min(now, kHistorySeconds);
  const uint64_t fine = now - std::min(now, kFineSeconds);
  return run(fmt::format("DELETE FROM host WHERE time < {0} OR time > {3};"
                         "DELETE FROM vm WHERE time < {0} OR time > {3};"
                         "DELETE FROM vm WHERE time < {1} AND time % {2} <> 0;"
                         "DELETE FROM vm_name WHERE id NOT IN (SELECT vm FROM vm)",
                         oldest, fine, kCoarseSeconds, now + kCoarseSeconds)
                 .c_str());
}

Status HistoryDb::read_host(const HistoryQuery& query, json& answer) {
  Statement rows(db_,
                 fmt::format("SELECT (time - ?1) / ?3{} FROM host WHERE time >= ?1 AND time < ?2 "
                             "GROUP BY 1",
                             aggregates(std::span(kHostSeries))));
  rows.bind(1, as_integer(query.since));
  rows.bind(2, as_integer(query.until));
  rows.bind(3, as_integer(query.step));
  const size_t points = answer["times"].size();
  json& host = answer["host"] = json::object();
  for (const auto& series : kHostSeries) host[series.name] = std::vector<json>(points);
  while (rows.step()) {
    const auto point = static_cast<size_t>(rows.integer(0));
    if (point >= points) continue;
    int column = 1;
    for (const auto& series : kHostSeries) host[series.name][point] = rows.integer(column++);
    json& state = host["state"][point];
    const auto number = state.get<size_t>();
    state = number < kStates.size() ? json(kStates[number]) : json();
  }
  if (!rows.good()) return error("SQLite");
  return Done{};
}

Status HistoryDb::read_vms(const HistoryQuery& query, json& answer) {
  // Of all VMs what the picture shows; of one, everything.
  const auto wanted = std::span(kVmSeries).first(query.vm.empty() ? 1 : std::size(kVmSeries));
  // By name: a VM that was made anew under its name goes on in its line.
  Statement rows(
      db_, fmt::format("SELECT name, (time - ?1) / ?3{} FROM vm JOIN vm_name ON vm = id "
                       "WHERE time >= ?1 AND time < ?2 AND (?4 = '' OR name = ?4) GROUP BY 1, 2",
                       aggregates(wanted)));
  rows.bind(1, as_integer(query.since));
  rows.bind(2, as_integer(query.until));
  rows.bind(3, as_integer(query.step));
  rows.bind(4, query.vm);
  const size_t points = answer["times"].size();
  json& vms = answer["vms"] = json::object();
  while (rows.step()) {
    json& vm = vms[rows.text(0)];
    if (vm.is_null()) {
      for (const auto& series : wanted) vm[series.name] = std::vector<json>(points);
    }
    const auto point = static_cast<size_t>(rows.integer(1));
    if (point >= points) continue;
    int column = 2;
    for (const auto& series : wanted) vm[series.name][point] = rows.integer(column++);
  }
  if (!rows.good()) return error("SQLite");
  return Done{};
}

Result<json> HistoryDb::read(const HistoryQuery& query) {
  BALLAST_CHECK(query.step > 0 && query.until >= query.since);
  json answer = {{"ok", true}, {"step", query.step}, {"times", json::array()}};
  for (uint64_t time = query.since; time < query.until; time += query.step) {
    answer["times"].push_back(time);
  }
  BALLAST_CHECK(answer["times"].size() <= kPointsMax);
  BALLAST_TRY_STATUS(read_host(query, answer));
  if (query.all_vms || !query.vm.empty()) BALLAST_TRY_STATUS(read_vms(query, answer));
  return answer;
}

}  // namespace ballast::web
