// toucher: a program whose working set is known. It writes to one word of every page of its first
// N MiB, over and over, and changes N by a schedule; what lies beyond N stays allocated and idle.
// What the host takes for the guest's active memory can thus be compared with the truth.
//
//   toucher [--sweep-ms MS] MIB:SECONDS...
//
// One sweep over the set begins every MS (200), so that the whole set is touched many times in any
// sampling period while the CPU stays free. All memory is touched once before the first step.
//
// Output, one line each: TOUCHER-FILLED mib=200 when that is done, then at each step, after its
// first whole sweep, TOUCHER-SET mib=60 seconds=30 sweep_us=812; TOUCHER-DONE at the end.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { kPageBytes = 4096, kPagesPerMib = (1 << 20) / kPageBytes, kMaxMib = 1 << 16 };

static double now_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void sleep_until(double when) {
  struct timespec at = {.tv_sec = (time_t)when};
  at.tv_nsec = (long)((when - (double)at.tv_sec) * 1e9);
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) != 0) {
  }
}

static void sweep(volatile uint64_t* memory, unsigned mib) {
  const size_t words = kPageBytes / sizeof *memory;
  for (size_t page = 0; page < (size_t)mib * kPagesPerMib; page++) memory[page * words]++;
}

static void run_step(volatile uint64_t* memory, unsigned mib, unsigned seconds, double period) {
  const double began = now_seconds();
  sweep(memory, mib);
  double next = now_seconds();
  printf("TOUCHER-SET mib=%u seconds=%u sweep_us=%.0f\n", mib, seconds, (next - began) * 1e6);
  while (next < began + seconds) {
    next += period;
    sleep_until(next);
    sweep(memory, mib);
    // A host that paused us must not be answered with a burst of sweeps.
    if (now_seconds() > next) next = now_seconds();
  }
}

static _Noreturn void usage(void) {
  fputs("usage: toucher [--sweep-ms MS] MIB:SECONDS...\n", stderr);
  exit(2);
}

static void parse_step(const char* text, unsigned* mib, unsigned* seconds) {
  char rest;
  if (sscanf(text, "%u:%u%c", mib, seconds, &rest) != 2 || *mib > kMaxMib) usage();
}

int main(int argc, char** argv) {
  double period = 0.2;
  int first = 1;
  if (argc > 2 && strcmp(argv[1], "--sweep-ms") == 0) {
    period = atof(argv[2]) / 1e3;
    first = 3;
  }
  if (first >= argc || period <= 0) usage();
  setvbuf(stdout, NULL, _IOLBF, 0);
  unsigned most = 0, mib, seconds;
  for (int i = first; i < argc; i++) {
    parse_step(argv[i], &mib, &seconds);
    if (mib > most) most = mib;
  }
  const size_t bytes = (size_t)most << 20;
  uint64_t* memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    perror("toucher: mmap");
    return 2;
  }
  madvise(memory, bytes, MADV_NOHUGEPAGE);  // every page on its own, as the host sees them
  sweep(memory, most);
  printf("TOUCHER-FILLED mib=%u\n", most);
  for (int i = first; i < argc; i++) {
    parse_step(argv[i], &mib, &seconds);
    run_step(memory, mib, seconds, period);
  }
  puts("TOUCHER-DONE");
  return 0;
}
