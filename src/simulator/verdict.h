// Verdict: how a run ends. A failed run ends the process at once, so that nothing goes on with
// wrong data.
#pragma once

#include <cstdint>
#include <string>

namespace ballast::simulator {

enum class Verdict : int {  // the program's exit codes
  kGood = 0,
  kCrash = 1,  // BALLAST_CHECK, sanitizer, a signal, or a refusal that nothing justifies
  kWrongData = 2,
  kNoProgress = 3,
  kOverBudget = 4,
};

const char* name_of(Verdict verdict);

// Names the seed in every later message, turns signals into verdicts, and sets a limit of real
// time.
void begin_judging(uint64_t seed, unsigned limit_seconds);
[[noreturn]] void fail(Verdict verdict, const std::string& message);

}  // namespace ballast::simulator
