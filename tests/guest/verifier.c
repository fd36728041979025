// verifier: proves, from inside a guest, that no byte of its memory is lost.
//
// It fills N MiB of anonymous memory with pages that identify themselves, then reads, checks and
// rewrites them for as long as it is told to. Whatever the host does with the guest's memory
// meanwhile (sharing, compressing, swapping, migrating the daemon's own state), every page must
// read back exactly as it was last written.
//
// A page's content is a pure function of (seed, page number, generation), so the only memory of
// what is expected is one 32-bit generation per page. The kind of content (zero, compressible,
// random) is part of that function: pages change kind as they are rewritten, while the mix stays
// the same.
//
// Damage is told apart by what is found instead of the expected page:
//   zero     all zero where content was expected         (a page dropped, never restored)
//   stale    an earlier generation of this page           (a lost write)
//   foreign  a valid page of another place or another seed (pages mixed up, or leaked by another
//   guest) corrupt  anything else                                (flipped bits, torn pages)
//
// Output, one line each, written by a single write(2):
//   BALLAST-VERIFY t=12.3 filled=46080 verified=123456 writes=3456 errors=0 rate=9876 stall_us=812
//   BALLAST-ERROR page=.. kind=.. ...      at once, the first 20 of them
//   BALLAST-DONE verified=.. writes=.. errors=.. complete=.. seconds=..
//   BALLAST-TOUCH pages=.. seconds=.. us_per_page=..     of --touch
// Exit status: 0 no errors, 1 errors, 2 wrong usage or no memory.
//
// Static, single-threaded, no dependencies: see README.md for how it gets into a guest.
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "options.h"
#include "page_content.h"

enum {
  kBatch = 16,          // accesses between two looks at the clock
  kErrorsPrinted = 20,  // details beyond these would only flood the serial port
};

typedef struct {
  Options options;
  uint64_t* memory;
  uint32_t* generations;
  uint32_t pages;
  uint32_t stride;  // coprime to pages: scatters the hot set over the memory
  uint32_t sweep_at;
  uint64_t random;
  uint64_t filled, verified, writes, errors;
  uint64_t verified_at_report;
  double started, reported;  // seconds of CLOCK_MONOTONIC
  double longest_batch;      // seconds, since the last report
  bool quiet;
} Verifier;

static volatile sig_atomic_t stop_requests;

static void on_stop_signal(int signal_number) {
  (void)signal_number;
  stop_requests = stop_requests + 1;
}

static double now_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

// One write(2) per line, so that kernel messages on the same serial port cannot cut it in two.
__attribute__((format(printf, 1, 2))) static void print_line(const char* format, ...) {
  char line[512];
  va_list args;
  va_start(args, format);
  int wanted = vsnprintf(line, sizeof line - 1, format, args);
  va_end(args);
  size_t length = wanted < (int)sizeof line - 1 ? (size_t)wanted : sizeof line - 2;
  line[length++] = '\n';
  for (size_t done = 0; done < length;) {
    ssize_t written = write(STDOUT_FILENO, line + done, length - done);
    if (written > 0) done += (size_t)written;
    if (written <= 0 && stop_requests > 1) return;
  }
}

// ---- Checking and reporting ---------------------------------------------------------------------

static uint64_t* page_words(const Verifier* v, uint32_t page) {
  return v->memory + (size_t)page * kPageWords;
}

// The guest's page frame number, to find the page again in the host's tables; 0 when unreadable.
static uint64_t page_frame(const uint64_t* words) {
  uint64_t entry = 0;
  int file = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  off_t offset = (off_t)((uintptr_t)words / kPageBytes * sizeof entry);
  if (pread(file, &entry, sizeof entry, offset) != (ssize_t)sizeof entry) entry = 0;
  close(file);
  return entry & ((UINT64_C(1) << 55) - 1);
}

static void report_error(Verifier* v, uint32_t page) {
  const uint64_t* got = page_words(v, page);
  v->errors++;
  if (v->quiet || v->errors > kErrorsPrinted) return;
  uint64_t expected[kPageWords];
  write_page(&v->options.content, expected, page, v->generations[page]);
  int first = -1, differing = 0;
  for (int i = 0; i < kPageWords; i++) {
    if (got[i] == expected[i]) continue;
    if (first < 0) first = i;
    differing++;
  }
  // The damage may be gone at the second look; that too is worth knowing.
  int shown = first < 0 ? 0 : first;
  const PageHeader* header = (const PageHeader*)got;
  print_line("BALLAST-ERROR page=%" PRIu32 " kind=%s frame=0x%" PRIx64
             " expected_generation=%" PRIu32 " got_generation=%" PRIu32 " got_page=%" PRIu32
             " got_magic=%016" PRIx64 " got_seed=%" PRIu64
             " first_diff_offset=%d"
             " differing_words=%d expected_word=%016" PRIx64 " got_word=%016" PRIx64,
             page, first < 0 ? "transient" : damage_kind(&v->options.content, got, page),
             page_frame(got), v->generations[page], header->generation, header->page, header->magic,
             header->seed, first < 0 ? -1 : first * 8, differing, expected[shown], got[shown]);
}

static void rewrite(Verifier* v, uint32_t page) {
  v->generations[page]++;
  write_page(&v->options.content, page_words(v, page), page, v->generations[page]);
  v->writes++;
}

// A damaged page is counted once and then written anew, so that the count is one of damages.
static bool check(Verifier* v, uint32_t page) {
  bool good = is_expected(&v->options.content, page_words(v, page), page, v->generations[page]);
  if (!good) {
    report_error(v, page);
    rewrite(v, page);
  }
  v->verified++;
  return good;
}

static void report_progress(Verifier* v, double now) {
  double interval = now - v->reported;
  print_line("BALLAST-VERIFY t=%.1f filled=%" PRIu64 " verified=%" PRIu64 " writes=%" PRIu64
             " errors=%" PRIu64 " rate=%.0f stall_us=%.0f",
             now - v->started, v->filled, v->verified, v->writes, v->errors,
             (double)(v->verified - v->verified_at_report) / interval, v->longest_batch * 1e6);
  v->verified_at_report = v->verified;
  v->reported = now;
  v->longest_batch = 0;
}

// Call after every batch with the time at which it began; returns the time now.
static double end_batch(Verifier* v, double began) {
  double now = now_seconds();
  if (now - began > v->longest_batch) v->longest_batch = now - began;
  if (now - v->reported >= 1.0) report_progress(v, now);
  return now;
}

// ---- Workload -----------------------------------------------------------------------------------

static uint32_t random_below(Verifier* v, uint32_t limit) {
  return (uint32_t)(((next_random(&v->random) >> 32) * limit) >> 32);
}

static bool chance(Verifier* v, unsigned percent) { return random_below(v, 100) < percent; }

static uint32_t pick_page(Verifier* v) {
  uint32_t hot = (uint32_t)((uint64_t)v->pages * v->options.hot_percent / 100);
  bool in_hot_set = hot > 0 && chance(v, v->options.hot_access_percent);
  uint32_t index;
  if (in_hot_set || hot == v->pages) {
    index = random_below(v, hot);
  } else {
    index = hot + random_below(v, v->pages - hot);
  }
  return (uint32_t)((uint64_t)index * v->stride % v->pages);
}

static void access_one(Verifier* v, uint32_t page) {
  if (!chance(v, v->options.write_percent)) {
    check(v, page);
    return;
  }
  // One write in four comes blind, without a read before: it faults differently in the host.
  if (!chance(v, 25)) check(v, page);
  rewrite(v, page);
}

static void run_batch(Verifier* v) {
  bool sweep = chance(v, v->options.sweep_percent);
  for (int i = 0; i < kBatch; i++) {
    if (sweep) {
      access_one(v, v->sweep_at);
      v->sweep_at = (v->sweep_at + 1) % v->pages;
    } else {
      access_one(v, pick_page(v));
    }
  }
}

static void fill(Verifier* v) {
  double began = now_seconds();
  while (v->filled < v->pages && stop_requests == 0) {
    uint32_t page = (uint32_t)v->filled++;
    write_page(&v->options.content, page_words(v, page), page, v->generations[page]);
    if (v->filled % kBatch == 0) began = end_batch(v, began);
  }
}

static bool check_everything(Verifier* v) {
  double began = now_seconds();
  for (uint32_t page = 0; page < v->filled; page++) {
    if (stop_requests > 1) return false;
    check(v, page);
    if (page % kBatch == 0) began = end_batch(v, began);
  }
  return v->filled == v->pages;
}

static bool open_memory(Verifier* v) {
  v->pages = v->options.mib * (1024u * 1024u / kPageBytes);
  size_t bytes = (size_t)v->pages * kPageBytes;
  v->memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (v->memory == MAP_FAILED) {
    print_line("BALLAST-FAILED cannot map %u MiB; give the guest more memory or lower --mib",
               v->options.mib);
    return false;
  }
  madvise(v->memory, bytes, MADV_NOHUGEPAGE);  // every page on its own, as the host sees them
  v->generations = calloc(v->pages, sizeof *v->generations);
  if (v->generations == NULL) return false;
  v->random = mix64(v->options.content.seed) | 1;
  // Near the golden ratio, so that neighbours of the hot set lie far apart; pages is no prime, so
  // look for the next number that reaches all of them.
  for (v->stride = (uint32_t)(v->pages * 0.618) | 1;; v->stride += 2) {
    uint32_t a = v->pages, b = v->stride;
    while (b != 0) {
      uint32_t rest = a % b;
      a = b;
      b = rest;
    }
    if (a == 1) break;
  }
  return true;
}

// ---- Proof that damage is found -----------------------------------------------------------------

// Damages one page of generation 0 in the named way and returns its number.
static uint32_t damage(Verifier* v, const char* kind) {
  uint32_t page = 0, other = 1;
  while (page_kind(&v->options.content, page, 0) == kZero) page++;
  other = page + 1;
  while (page_kind(&v->options.content, other, 0) == kZero) other++;
  uint64_t* words = page_words(v, page);
  if (strcmp(kind, "zero") == 0) {
    memset(words, 0, kPageBytes);
  } else if (strcmp(kind, "foreign") == 0) {
    memcpy(words, page_words(v, other), kPageBytes);
  } else if (strcmp(kind, "corrupt") == 0) {
    ((unsigned char*)words)[3000] ^= 4;
  } else {
    v->generations[page]++;  // as if the rewrite had been lost
  }
  return page;
}

static int failures;

static void expect(bool condition, const char* what) {
  if (condition) return;
  failures++;
  print_line("SELFTEST-FAILED %s", what);
}

static void selftest_kind(Verifier* v, const char* kind) {
  uint32_t page = damage(v, kind);
  expect(strcmp(damage_kind(&v->options.content, page_words(v, page), page), kind) == 0, kind);
  uint64_t errors = v->errors;
  expect(!check(v, page) && v->errors == errors + 1, "damage must be counted");
  expect(check(v, page), "a page must be whole again after its damage was reported");
  // back to generation 0 for the next kind
  v->generations[page] = 0;
  write_page(&v->options.content, page_words(v, page), page, 0);
}

static void selftest_every_bit(Verifier* v, uint32_t page) {
  unsigned char* bytes = (unsigned char*)page_words(v, page);
  for (int bit = 0; bit < kPageBytes * 8; bit++) {
    bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
    bool missed = is_expected(&v->options.content, page_words(v, page), page, v->generations[page]);
    bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
    if (missed) {
      expect(false, "a flipped bit went unnoticed");
      return;
    }
  }
}

// A page where a later generation was written in part only, and one where a zero page was expected.
static void selftest_torn_and_unzeroed(Verifier* v) {
  uint64_t torn[kPageWords], later[kPageWords];
  for (uint32_t page = 0; page < v->pages; page++) {
    write_page(&v->options.content, torn, page, 0);
    write_page(&v->options.content, later, page, 1);
    if (memcmp(torn, later, kPageBytes) == 0) continue;  // zero in both
    expect(!is_expected(&v->options.content, torn, page, 1), "the older generation went unnoticed");
    if (is_zero(torn) || is_zero(later)) continue;
    memcpy(torn, later, kPageBytes / 2);
    expect(!is_expected(&v->options.content, torn, page, 1), "a torn page went unnoticed");
  }
}

static int selftest(Verifier* v) {
  static const char* const kDamages[] = {"zero", "stale", "foreign", "corrupt"};
  bool seen[kKinds] = {false};
  fill(v);
  expect(check_everything(v) && v->errors == 0, "undamaged memory must have no errors");
  print_line("selftest: the following BALLAST-ERROR lines are intended");
  for (size_t i = 0; i < sizeof kDamages / sizeof *kDamages; i++) selftest_kind(v, kDamages[i]);
  for (uint32_t page = 0; page < v->pages; page++) {
    Kind kind = page_kind(&v->options.content, page, v->generations[page]);
    if (!seen[kind]) selftest_every_bit(v, page);
    seen[kind] = true;
  }
  expect(seen[kZero] && seen[kCompressible] && seen[kRandom], "the mix must have every kind");
  selftest_torn_and_unzeroed(v);
  uint64_t errors = v->errors;
  for (int i = 0; i < 2000; i++) run_batch(v);
  expect(check_everything(v) && v->errors == errors, "the workload must keep the memory whole");
  print_line(failures == 0 ? "SELFTEST-OK" : "SELFTEST-FAILED %d expectations", failures);
  return failures == 0 ? 0 : 1;
}

// ---- Program ------------------------------------------------------------------------------------

static int run(Verifier* v) {
  fill(v);
  if (v->options.inject != NULL) damage(v, v->options.inject);
  double began = now_seconds(), checking_since = began;
  while (stop_requests == 0 &&
         (v->options.seconds == 0 || began - checking_since < v->options.seconds)) {
    run_batch(v);
    began = end_batch(v, began);
    if (v->options.pause_us > 0) {
      usleep(v->options.pause_us);
      began = now_seconds();
    }
  }
  bool complete = !v->options.no_final_sweep && check_everything(v);
  print_line("BALLAST-DONE verified=%" PRIu64 " writes=%" PRIu64 " errors=%" PRIu64
             " complete=%d seconds=%.1f",
             v->verified, v->writes, v->errors, complete, now_seconds() - v->started);
  return v->errors == 0 ? 0 : 1;
}

// One write per page, in order: what a program pays that takes memory for the first time.
static int touch(Verifier* v) {
  double began = now_seconds();
  for (uint32_t page = 0; page < v->pages; page++) *(volatile uint64_t*)page_words(v, page) = 1;
  double seconds = now_seconds() - began;
  print_line("BALLAST-TOUCH pages=%" PRIu32 " seconds=%.4f us_per_page=%.3f", v->pages, seconds,
             seconds * 1e6 / v->pages);
  return 0;
}

int main(int argc, char** argv) {
  Verifier v = {.options = parse_options(argc, argv)};
  struct sigaction action = {.sa_handler = on_stop_signal};
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGINT, &action, NULL);
  v.started = v.reported = now_seconds();
  if (!open_memory(&v)) return 2;
  if (v.options.selftest) return selftest(&v);
  if (v.options.touch) return touch(&v);
  if (!v.options.dump) return run(&v);
  v.quiet = true;
  v.reported += 1e9;  // no progress lines among the pages
  fill(&v);
  return fwrite(v.memory, kPageBytes, v.pages, stdout) == v.pages ? 0 : 2;
}
