#include "page_content.h"

#include <string.h>

enum { kHeaderWords = 4, kTwinPages = 64, kTwinGenerations = 4 };
_Static_assert(sizeof(PageHeader) == kHeaderWords * 8, "the header is four words");

static const uint64_t kMagic = UINT64_C(0x59464952564c4142);

uint64_t mix64(uint64_t value) {
  value = (value ^ (value >> 31)) * UINT64_C(0x7fb5d329728ea185);
  value = (value ^ (value >> 27)) * UINT64_C(0x81dadef4bc2dd44d);
  return value ^ (value >> 33);
}

uint64_t next_random(uint64_t* state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

static uint64_t page_hash(const ContentSpec* spec, uint32_t page, uint32_t generation) {
  return mix64(spec->seed ^ mix64(((uint64_t)page << 32 | generation) + 1));
}

static Kind kind_of_hash(const ContentSpec* spec, uint64_t hash) {
  unsigned percentile = (unsigned)((hash >> 40) % 100);
  if (percentile < spec->mix[kZero]) return kZero;
  percentile -= spec->mix[kZero];
  if (percentile < spec->mix[kCompressible]) return kCompressible;
  return percentile - spec->mix[kCompressible] < spec->mix[kRandom] ? kRandom : kTwin;
}

Kind page_kind(const ContentSpec* spec, uint32_t page, uint32_t generation) {
  return kind_of_hash(spec, page_hash(spec, page, generation));
}

// Each step is a bijection of the lane, so a change of any one word always changes the result.
static uint64_t page_checksum(const uint64_t* words) {
  const uint64_t prime_a = UINT64_C(0x9e3779b185ebca87), prime_b = UINT64_C(0xc2b2ae3d27d4eb4f);
  uint64_t a = words[0] ^ prime_b, b = words[1] ^ prime_a;
  a = (a ^ words[2]) * prime_a;
  for (int i = kHeaderWords; i < kPageWords; i += 2) {
    a = (a ^ words[i]) * prime_a;
    b = (b ^ words[i + 1]) * prime_b;
  }
  return mix64(a) ^ mix64(b + prime_b);
}

// LZ4 turns a group of 8 words with r random ones into about 8 * r + 5 bytes. r alternates between
// two neighbours that differ from page to page, which gives 26 to 39 % of the original size.
static void fill_compressible(uint64_t* words, uint64_t hash) {
  uint64_t state = hash | 1;
  uint64_t filler = mix64(hash);
  unsigned even = 1 + (hash & 1), odd = 2 + ((hash >> 1) & 1);
  for (int group = 0; group < kPageWords; group += 8) {
    int random_words = (int)(group & 8 ? odd : even);
    for (int i = 0; i < 8; i++) {
      words[group + i] = i < random_words ? next_random(&state) : filler;
    }
  }
}

static void fill_random(uint64_t* words, uint64_t hash) {
  uint64_t state = hash | 1;
  for (int i = 0; i < kPageWords; i++) words[i] = next_random(&state);
}

void write_page(const ContentSpec* spec, uint64_t* words, uint32_t page, uint32_t generation) {
  uint64_t hash = page_hash(spec, page, generation);
  Kind kind = kind_of_hash(spec, hash);
  if (kind == kZero) {
    memset(words, 0, kPageBytes);
    return;
  }
  if (kind == kTwin) {
    page %= kTwinPages;
    generation %= kTwinGenerations;
    hash = page_hash(spec, page, generation);
  }
  if (kind == kCompressible) {
    fill_compressible(words, hash);
  } else {
    fill_random(words, hash);
  }
  PageHeader* header = (PageHeader*)words;
  *header = (PageHeader){kMagic, spec->seed, page, generation, 0};
  header->checksum = page_checksum(words);
}

bool is_zero(const uint64_t* words) {
  uint64_t any = 0;
  for (int i = 0; i < kPageWords; i++) any |= words[i];
  return any == 0;
}

bool is_expected(const ContentSpec* spec, const uint64_t* words, uint32_t page,
                 uint32_t generation) {
  const PageHeader* header = (const PageHeader*)words;
  Kind kind = page_kind(spec, page, generation);
  if (kind == kZero) return is_zero(words);
  if (kind == kTwin) {
    page %= kTwinPages;
    generation %= kTwinGenerations;
  }
  return header->magic == kMagic && header->seed == spec->seed && header->page == page &&
         header->generation == generation && header->checksum == page_checksum(words);
}

// Any generation but the expected one is "stale": a later one means that our own table was lost.
const char* damage_kind(const ContentSpec* spec, const uint64_t* words, uint32_t page) {
  const PageHeader* header = (const PageHeader*)words;
  if (is_zero(words)) return "zero";
  if (header->magic != kMagic || header->checksum != page_checksum(words)) return "corrupt";
  bool own = header->page == page || (spec->mix[kTwin] > 0 && header->page == page % kTwinPages);
  return own && header->seed == spec->seed ? "stale" : "foreign";
}
