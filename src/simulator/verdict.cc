#include "simulator/verdict.h"

#include <fmt/core.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>

namespace ballast::simulator {

namespace {

uint64_t judged_seed = 0;

[[noreturn]] void end_with(Verdict verdict, const char* message) {
  std::fflush(stdout);
  std::fprintf(stderr, "seed %llu: FAILED, %s: %s\n  again: ballast-sim --seed %llu --verbose\n",
               static_cast<unsigned long long>(judged_seed), name_of(verdict), message,
               static_cast<unsigned long long>(judged_seed));
  std::fflush(stderr);
  _exit(static_cast<int>(verdict));
}

void on_abort(int) { end_with(Verdict::kCrash, "aborted, see above"); }
void on_alarm(int) { end_with(Verdict::kNoProgress, "the run does not end"); }

}  // namespace

const char* name_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::kGood:
      return "good";
    case Verdict::kCrash:
      return "crash";
    case Verdict::kWrongData:
      return "wrong data";
    case Verdict::kNoProgress:
      return "no progress";
    case Verdict::kOverBudget:
      return "over budget";
  }
  return "?";
}

void begin_judging(uint64_t seed, unsigned limit_seconds) {
  judged_seed = seed;
  std::signal(SIGABRT, on_abort);
  std::signal(SIGALRM, on_alarm);
  alarm(limit_seconds);
}

void fail(Verdict verdict, const std::string& message) { end_with(verdict, message.c_str()); }

}  // namespace ballast::simulator
