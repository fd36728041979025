#include "web/history.h"

#include <gmock/gmock.h>
#include <sqlite3.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "web/test_host.h"

namespace ballast::web {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint64_t kStart = 1'700'000'000;  // a multiple of 10

class HistoryTest : public testing::Test {
 protected:
  HistoryTest() {
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
  }
  ~HistoryTest() override { std::filesystem::remove_all(directory_); }

  std::unique_ptr<HistoryDb> open() {
    auto db = HistoryDb::open(path_);
    EXPECT_TRUE(db) << db.error().message;
    return db ? std::move(*db) : nullptr;
  }
  int64_t count(const char* sql) {
    sqlite3* raw = nullptr;
    sqlite3_open(path_.c_str(), &raw);
    sqlite3_stmt* statement = nullptr;
    sqlite3_prepare_v2(raw, sql, -1, &statement, nullptr);
    EXPECT_EQ(sqlite3_step(statement), SQLITE_ROW) << sqlite3_errmsg(raw);
    const int64_t result = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(raw);
    return result;
  }

  const std::string directory_ = testing::TempDir() + "ballast-history." + std::to_string(getpid());
  const std::string path_ = directory_ + "/history.sqlite";
};

HistoryQuery query(uint64_t since, uint64_t until, uint64_t step) {
  HistoryQuery result;
  result.since = since;
  result.until = until;
  result.step = step;
  return result;
}

TEST_F(HistoryTest, KeepsWhatItWasGivenAcrossRestarts) {
  HostReport host = make_host(2);
  auto db = open();
  ASSERT_TRUE(db->add(host, kStart + 3));
  host.consumed_bytes += 10;
  ASSERT_TRUE(db->add(host, kStart + 20));
  db = nullptr;
  db = open();
  const auto answer = db->read(query(kStart, kStart + 30, 10));
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ((*answer)["times"], json({kStart, kStart + 10, kStart + 20}));
  EXPECT_EQ((*answer)["host"]["consumed_bytes"],
            json({host.consumed_bytes - 10, nullptr, host.consumed_bytes}));
  EXPECT_EQ((*answer)["host"]["state"], json({"soft", nullptr, "soft"}));
  EXPECT_EQ((*answer)["host"]["resident_bytes"][0],
            host.vms[0].resident_bytes + host.vms[1].resident_bytes);
}

TEST_F(HistoryTest, OneStepIsTheMeanOfSizesAndTheWorstOfStates) {
  auto db = open();
  HostReport host = make_host(1);
  for (int i = 0; i < 6; ++i) {
    host.consumed_bytes = 100 + 10 * static_cast<uint64_t>(i);
    host.state = i == 3 ? "low" : "high";
    ASSERT_TRUE(db->add(host, kStart + 10 * static_cast<uint64_t>(i)));
  }
  const auto answer = db->read(query(kStart, kStart + 60, 60));
  ASSERT_TRUE(answer);
  EXPECT_EQ((*answer)["host"]["consumed_bytes"], json({125}));
  EXPECT_EQ((*answer)["host"]["state"], json({"low"}));
}

TEST_F(HistoryTest, OneVmIsToldWholeAllOfThemByWhatTheyConsume) {
  auto db = open();
  const HostReport host = make_host(3);
  ASSERT_TRUE(db->add(host, kStart));
  HistoryQuery asked = query(kStart, kStart + 10, 10);
  asked.vm = "vm1";
  auto answer = db->read(asked);
  ASSERT_TRUE(answer);
  EXPECT_EQ((*answer)["vms"].size(), 1u);
  EXPECT_EQ((*answer)["vms"]["vm1"]["waits"], json({1}));
  asked.vm.clear();
  asked.all_vms = true;
  answer = db->read(asked);
  ASSERT_TRUE(answer);
  EXPECT_EQ((*answer)["vms"].size(), 3u);
  EXPECT_EQ((*answer)["vms"]["vm2"], json({{"consumed_bytes", {host.vms[2].consumed_bytes}}}));
}

TEST_F(HistoryTest, ForgetsAfterADayAndThinsOutVmsAfterAnHour) {
  auto db = open();
  const HostReport host = make_host(1);
  for (uint64_t ago : {90'000u, 86'390u, 7'200u, 7'190u, 600u, 590u}) {
    ASSERT_TRUE(db->add(host, kStart - kStart % 60 + 120 - ago));
  }
  ASSERT_TRUE(db->prune(kStart - kStart % 60 + 120));
  db = nullptr;
  EXPECT_EQ(count("SELECT count(*) FROM host"), 5);
  EXPECT_EQ(count("SELECT count(*) FROM vm"), 3);  // 7200 and 600 and 590 s ago
  db = open();
  ASSERT_TRUE(db->prune(kStart + 200'000));
  db = nullptr;
  EXPECT_EQ(count("SELECT count(*) FROM vm_name"), 0);
}

TEST_F(HistoryTest, AFileOfAnotherKindIsToldFromOneThatCannotBeOpened) {
  std::ofstream(path_) << std::string(5000, 'x');
  auto db = HistoryDb::open(path_);
  ASSERT_FALSE(db);
  EXPECT_EQ(db.error().system_error, EILSEQ);
  db = HistoryDb::open(directory_ + "/no/such/directory");
  ASSERT_FALSE(db);
  EXPECT_NE(db.error().system_error, EILSEQ);
}

// The thread, with what it said.
class HistoryThread : public HistoryTest {
 protected:
  std::unique_ptr<History> start() {
    return std::make_unique<History>(
        path_,
        [this](Severity, std::string kind, std::string message) {
          const std::lock_guard hold(lock_);
          said_.push_back(kind + ": " + message);
        },
        [] {});
  }
  std::vector<std::string> said() {
    const std::lock_guard hold(lock_);
    return said_;
  }
  static std::shared_ptr<Snapshot> snapshot(uint64_t seconds) {
    auto result = std::make_shared<Snapshot>();
    result->host = make_host(2);
    result->unix_ms = seconds * 1000;
    return result;
  }
  static Result<json> read(History& history, const HistoryQuery& wanted) {
    const auto asked = history.ask(wanted);
    for (int i = 0; asked && i < 5000; ++i) {
      if (auto answer = history.answer_of(*asked)) return std::move(*answer);
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return Error{"no answer"};
  }

 private:
  std::mutex lock_;
  std::vector<std::string> said_;
};

TEST_F(HistoryThread, KeepsAndAnswers) {
  auto history = start();
  history->add(snapshot(kStart));
  const auto answer = read(*history, query(kStart, kStart + 10, 10));
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ((*answer)["host"]["state"], json({"soft"}));
  EXPECT_THAT(said(), ElementsAre());
}

TEST_F(HistoryThread, ADamagedFileIsMovedAsideAndSaidOnce) {
  std::ofstream(path_) << std::string(5000, 'x');
  {
    auto history = start();
    history->add(snapshot(kStart));
    ASSERT_TRUE(read(*history, query(kStart, kStart + 10, 10)));
  }
  ASSERT_THAT(said(), ElementsAre(HasSubstr("history.damaged: the history cannot be read")));
  EXPECT_EQ(std::filesystem::file_size(path_ + ".damaged"), 5000u);
  EXPECT_EQ(count("SELECT count(*) FROM host"), 1);
}

TEST_F(HistoryThread, APageThatIsDamagedLaterIsSurvivedToo) {
  {
    auto history = start();
    for (uint64_t i = 0; i < 200; ++i) {
      history->add(snapshot(kStart + 10 * i));
      if (i % 4 == 0) {
        ASSERT_TRUE(read(*history, query(kStart, kStart + 10, 10)));
      }
    }
  }
  std::filesystem::remove(path_ + "-wal");
  {
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(4096 + 100);
    file << std::string(8000, '\xff');
  }
  auto history = start();
  history->add(snapshot(kStart + 5000));
  const auto answer = read(*history, query(kStart + 5000, kStart + 5010, 10));
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ((*answer)["host"]["state"], json({"soft"}));
  EXPECT_EQ(said().size(), 1u);
}

TEST_F(HistoryThread, WithoutADiskItGoesWithoutAndSaysSoOnceAndComesBack) {
  std::filesystem::remove_all(directory_);
  std::ofstream(directory_) << "a file where the directory should be";
  auto history = start();
  for (uint64_t i = 0; i < 3; ++i) {
    history->add(snapshot(kStart + 10 * i));
    EXPECT_FALSE(read(*history, query(kStart, kStart + 10, 10)));
  }
  EXPECT_THAT(said(), ElementsAre(HasSubstr("history.failed")));
  std::filesystem::remove(directory_);
  history->add(snapshot(kStart + 30));
  EXPECT_TRUE(read(*history, query(kStart, kStart + 10, 10)));
  EXPECT_THAT(said(), ElementsAre(HasSubstr("history.failed"), HasSubstr("history.kept")));
}

}  // namespace
}  // namespace ballast::web
