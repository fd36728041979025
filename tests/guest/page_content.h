// What the verifier's pages contain: a pure function of (seed, page number, generation), so that
// the expected content of any page can be made anew at any time. The kind of content is part of
// that function: pages change kind as they are rewritten, while the mix of kinds stays the same.
// Pages are 4096 bytes; all functions may be called from any thread.
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { kPageBytes = 4096, kPageWords = kPageBytes / 8 };

// A twin is one of 256 contents of its seed: pages within a guest, and of guests with one seed, are
// equal all the time, and differ again with the next write.
typedef enum { kZero, kCompressible, kRandom, kTwin, kKinds } Kind;

typedef struct {
  uint64_t seed;
  unsigned mix[kKinds];  // percent of pages, adds up to 100
} ContentSpec;

// The first words of every page that is not zero. The checksum covers the other 511 words. A twin
// has page and generation of the content, not its own.
typedef struct {
  uint64_t magic;
  uint64_t seed;
  uint32_t page;
  uint32_t generation;
  uint64_t checksum;
} PageHeader;

uint64_t mix64(uint64_t value);
// xorshift64; the state must not be 0.
uint64_t next_random(uint64_t* state);

Kind page_kind(const ContentSpec* spec, uint32_t page, uint32_t generation);
void write_page(const ContentSpec* spec, uint64_t* words, uint32_t page, uint32_t generation);
bool is_zero(const uint64_t* words);
bool is_expected(const ContentSpec* spec, const uint64_t* words, uint32_t page,
                 uint32_t generation);

// Names what a page that is not as expected holds: "zero", "stale", "foreign" or "corrupt".
const char* damage_kind(const ContentSpec* spec, const uint64_t* words, uint32_t page);
