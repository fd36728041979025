// QmpBalloon: the balloon of a real VM, over the monitor of its QEMU. One thread, a poll loop's;
// nothing blocks. The loop treats it as it treats a QmpClient (qmp_client.h).
//
// It asks one thing at a time, the most urgent first: which device, does the VM run, then the wish,
// then how things are. Wishes and the statistics' period are repeated after every new connection.
// Values are handed on as the guest and QEMU say them.
#pragma once

#include <array>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "machine/balloon.h"
#include "machine/linux/qmp_client.h"

namespace ballast::linux_machine {

class QmpBalloon final : public machine::Balloon, private QmpClient::Listener {
 public:
  // How often the size is asked for: while it moves or should, and else (events may get lost).
  static constexpr Nanoseconds kSizePeriodBusy = kSecond / 4;
  static constexpr Nanoseconds kSizePeriodIdle = 10 * kSecond;
  // A VM without a balloon may be given one while it runs.
  static constexpr Nanoseconds kSearchPeriod = 60 * kSecond;

  // `monitor`: path of the socket. `peer`: the VM's process; 0: do not check.
  // `configured_bytes`: the VM's RAM, of which the balloon takes.
  QmpBalloon(std::string monitor, pid_t peer, uint64_t configured_bytes)
      : client_(std::move(monitor), peer, *this), configured_bytes_(configured_bytes) {}

  int fd() const { return client_.fd(); }
  short wanted() const { return client_.wanted(); }
  Nanoseconds wake_at() const;
  void handle(Nanoseconds now);
  void tick(Nanoseconds now);

  machine::BalloonView view() const override;
  void request(uint64_t guest_bytes) override { wish_ = guest_bytes; }
  void set_stats_period(uint32_t seconds) override { period_ = seconds; }

 private:
  void on_ready() override;
  void on_failure() override;
  void on_event(const std::string& name, const nlohmann::json& data) override;

  // When the next question is due; UINT64_MAX: never.
  Nanoseconds question_at() const;
  void ask();
  void search();
  void ask_status();
  void send_wish();
  void send_period();
  void ask_size();
  void ask_stats();

  void forget_device();
  bool no_balloon(const QmpReply& reply);
  void take_reset();
  void take_size(uint64_t actual);
  void set_size(uint64_t actual);
  void take_stats(const QmpReply& reply);
  void reject(const char* question, const QmpReply& reply);
  bool settled() const { return has_status_ && has_size_; }

  QmpClient client_;
  const uint64_t configured_bytes_;
  Nanoseconds now_ = 0;

  // What the policy wants, and what this connection's QEMU was told of it.
  std::optional<uint64_t> wish_;
  std::optional<uint64_t> sent_wish_;
  std::optional<uint32_t> period_;
  std::optional<uint32_t> sent_period_;

  std::string device_;   // QOM path; empty: not found yet
  size_t searched_ = 0;  // containers that this search has looked through
  bool absent_ = false;  // the last search found none
  bool has_status_ = false;
  bool has_size_ = false;
  Nanoseconds search_at_ = 0;
  Nanoseconds size_at_ = 0;
  Nanoseconds stats_at_ = 0;
  Nanoseconds moved_at_ = 0;  // when the size last changed
  Nanoseconds reset_at_ = 0;
  std::optional<uint64_t> stale_;  // the size that QEMU shows from before the reset
  // QEMU's wall clock when the guest last told its statistics; 0: never. Kept over connections.
  uint64_t last_update_ = 0;

  machine::BalloonView view_;  // all but the link
};

}  // namespace ballast::linux_machine
