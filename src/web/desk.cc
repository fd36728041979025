#include "web/desk.h"

#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <exception>

namespace ballast::web {

namespace {

// What was told that it cannot be answered must not be carried out later.
void forget_what_was_taken_back(std::vector<std::shared_ptr<Question>>& questions) {
  std::erase_if(questions, [](const auto& question) { return question.use_count() == 1; });
}

nlohmann::json answer_to(const nlohmann::json& request, const proto::ControlService& service) {
  // Whatever slips out of a handler must not take the daemon along.
  try {
    return proto::answer(request, service);
  } catch (const std::exception& problem) {
    return proto::error_answer(fmt::format("internal error: {}", problem.what()));
  }
}

}  // namespace

Nanoseconds steady_now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<Nanoseconds>(time.tv_sec) * kSecond + static_cast<Nanoseconds>(time.tv_nsec);
}

void ring(int event_fd) {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(event_fd, &one, sizeof one);
}

void drain(int event_fd) {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = read(event_fd, &count, sizeof count);
}

Desk::Desk(bool periodic)
    : periodic_(periodic),
      daemon_bell_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      web_bell_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  BALLAST_CHECK_THAT(daemon_bell_ >= 0 && web_bell_ >= 0, "eventfd: errno {}", errno);
}

Desk::~Desk() {
  close(daemon_bell_);
  close(web_bell_);
}

void Desk::serve(const proto::ControlService& service) {
  drain(daemon_bell_);
  std::vector<std::shared_ptr<Question>> questions;
  bool wanted = false;
  {
    const std::lock_guard hold(lock_);
    questions.swap(asked_);
    wanted = std::exchange(wanted_, false);
  }
  forget_what_was_taken_back(questions);
  const Nanoseconds now = steady_now();
  std::vector<nlohmann::json> answers;
  answers.reserve(questions.size());
  for (const auto& question : questions) answers.push_back(answer_to(question->request, service));
  std::shared_ptr<Snapshot> snapshot;
  if (wanted || now >= wake_at()) {
    snapshot = std::make_shared<Snapshot>();
    snapshot->host = service.host();
    snapshot->at = published_ = now;
    snapshot->number = ++number_;
    snapshot->unix_ms =
        static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                  std::chrono::system_clock::now().time_since_epoch())
                                  .count());
  }
  if (questions.empty() && !snapshot) return;
  {
    const std::lock_guard hold(lock_);
    for (size_t i = 0; i < questions.size(); ++i) questions[i]->answer = std::move(answers[i]);
    if (snapshot) latest_ = std::move(snapshot);
  }
  ring_web();
}

std::shared_ptr<const Snapshot> Desk::latest() const {
  const std::lock_guard hold(lock_);
  return latest_;
}

void Desk::want_snapshot() {
  {
    const std::lock_guard hold(lock_);
    if (wanted_) return;
    wanted_ = true;
  }
  ring(daemon_bell_);
}

std::shared_ptr<Question> Desk::ask(nlohmann::json request) {
  auto question = std::make_shared<Question>();
  question->request = std::move(request);
  {
    const std::lock_guard hold(lock_);
    forget_what_was_taken_back(asked_);
    if (asked_.size() >= kQuestionsMax) return nullptr;
    asked_.push_back(question);
  }
  ring(daemon_bell_);
  return question;
}

std::optional<nlohmann::json> Desk::answer_of(const Question& question) const {
  const std::lock_guard hold(lock_);
  return question.answer;
}

void Desk::ring_web() const { ring(web_bell_); }

}  // namespace ballast::web
