#define _GNU_SOURCE
#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char kUsage[] =
    "usage: verifier [options]        fills memory with self-identifying pages and checks them\n"
    "  --mib N             memory to hold, MiB (64)\n"
    "  --mix SPEC          percent of pages of each content (zero:10,lz50:60,random:30);\n"
    "                      twin:P makes pages that are equal within a guest and between guests\n"
    "  --write-percent P   accesses that rewrite the page (20)\n"
    "  --hot-percent P     pages that make up the hot set (30)\n"
    "  --hot-access P      random accesses that go to the hot set (80)\n"
    "  --sweep-percent P   batches that walk on sequentially instead (10)\n"
    "  --pause-us N        sleep after every 16 accesses (0)\n"
    "  --seconds N         stop N seconds after the fill (0 = at SIGTERM)\n"
    "  --no-final-sweep    do not check every page once more before BALLAST-DONE\n"
    "  --seed N            seed of all contents and choices (1)\n"
    "  --inject KIND       damage a page after the fill: zero, stale, foreign or corrupt\n"
    "  --selftest          prove that every kind of damage is found; exit 0 if so\n"
    "  --touch             time the first touch of the memory, page after page, and exit\n"
    "  --dump              write the filled memory to stdout and exit\n";

static _Noreturn void usage_error(const char* what, const char* value) {
  fprintf(stderr, "verifier: %s '%s'\n%s", what, value, kUsage);
  exit(2);
}

static uint64_t parse_number(const char* name, const char* text, uint64_t limit) {
  char* end = NULL;
  unsigned long long value = strtoull(text, &end, 10);
  if (*text < '0' || *text > '9' || *end != '\0' || value > limit) {
    char what[80];
    snprintf(what, sizeof what, "%s takes a number from 0 to %llu, not", name,
             (unsigned long long)limit);
    usage_error(what, text);
  }
  return value;
}

static void parse_mix(const char* text, unsigned mix[kKinds]) {
  static const char* const kNames[kKinds] = {"zero:", "lz50:", "random:", "twin:"};
  char copy[64];
  if (strlen(text) >= sizeof copy) usage_error("--mix is too long:", text);
  strcpy(copy, text);
  memset(mix, 0, kKinds * sizeof *mix);
  for (char* part = strtok(copy, ","); part != NULL; part = strtok(NULL, ",")) {
    int kind = 0;
    while (kind < kKinds && strncmp(part, kNames[kind], strlen(kNames[kind])) != 0) kind++;
    if (kind == kKinds) usage_error("--mix knows zero:, lz50:, random: and twin:, not", part);
    mix[kind] = (unsigned)parse_number("--mix", part + strlen(kNames[kind]), 100);
  }
  if (mix[kZero] + mix[kCompressible] + mix[kRandom] + mix[kTwin] != 100) {
    usage_error("--mix must add up to 100:", text);
  }
}

static const char* parse_damage(const char* text) {
  static const char* const kKnown[] = {"zero", "stale", "foreign", "corrupt"};
  for (size_t i = 0; i < sizeof kKnown / sizeof *kKnown; i++) {
    if (strcmp(text, kKnown[i]) == 0) return text;
  }
  usage_error("--inject knows zero, stale, foreign and corrupt, not", text);
}

// Sets the option if it is one of those that hold a number.
static bool parse_numeric(Options* o, const char* name, const char* text) {
  const struct {
    const char* name;
    unsigned* value;
    unsigned limit;
  } numeric[] = {
      {"mib", &o->mib, 1u << 20},
      {"write-percent", &o->write_percent, 100},
      {"hot-percent", &o->hot_percent, 100},
      {"hot-access", &o->hot_access_percent, 100},
      {"sweep-percent", &o->sweep_percent, 100},
      {"pause-us", &o->pause_us, 999999},
      {"seconds", &o->seconds, 1u << 30},
  };
  for (size_t i = 0; i < sizeof numeric / sizeof *numeric; i++) {
    if (strcmp(name, numeric[i].name) != 0) continue;
    *numeric[i].value = (unsigned)parse_number(name, text, numeric[i].limit);
    return true;
  }
  return false;
}

static void check_together(const Options* o) {
  if (o->mib == 0) usage_error("--mib must be at least 1, not", "0");
  if (o->inject != NULL && o->content.mix[kZero] > 90) {
    usage_error("--inject needs pages with content, so at most zero:90 in --mix, for", o->inject);
  }
}

Options parse_options(int argc, char** argv) {
  static const struct option kOptions[] = {{"mib", 1, NULL, 0},
                                           {"write-percent", 1, NULL, 0},
                                           {"hot-percent", 1, NULL, 0},
                                           {"hot-access", 1, NULL, 0},
                                           {"sweep-percent", 1, NULL, 0},
                                           {"pause-us", 1, NULL, 0},
                                           {"seconds", 1, NULL, 0},
                                           {"mix", 1, NULL, 'x'},
                                           {"seed", 1, NULL, 's'},
                                           {"inject", 1, NULL, 'i'},
                                           {"no-final-sweep", 0, NULL, 'n'},
                                           {"selftest", 0, NULL, 't'},
                                           {"dump", 0, NULL, 'd'},
                                           {"touch", 0, NULL, 'T'},
                                           {"help", 0, NULL, 'h'},
                                           {NULL, 0, NULL, 0}};
  Options o = {.content = {.seed = 1, .mix = {10, 60, 30}},
               .mib = 64,
               .write_percent = 20,
               .hot_percent = 30,
               .hot_access_percent = 80,
               .sweep_percent = 10};
  int index = 0;
  for (int found; (found = getopt_long(argc, argv, "", kOptions, &index)) != -1;) {
    if (found == 0 && parse_numeric(&o, kOptions[index].name, optarg)) continue;
    if (found == 'x') parse_mix(optarg, o.content.mix);
    if (found == 's') o.content.seed = parse_number("--seed", optarg, UINT64_MAX);
    if (found == 'i') o.inject = parse_damage(optarg);
    if (found == 'n') o.no_final_sweep = true;
    if (found == 't') o.selftest = true;
    if (found == 'd') o.dump = true;
    if (found == 'T') o.touch = true;
    if (found == 'h') {
      fputs(kUsage, stdout);
      exit(0);
    }
    if (found == '?') usage_error("wrong use of", argv[optind - 1]);
  }
  if (optind < argc) usage_error("unexpected argument", argv[optind]);
  check_together(&o);
  return o;
}
