// guest_program.c: what runs inside the micro-VM, at CPL3 and native speed, with no kernel below
// it.
//
// Built as a flat binary (guest.ld), no SSE, no libc. The same pages as the Linux guest's verifier:
// a page's content is a function of (seed, page, generation), so only generations need remembering.
// Every access that can fault is timed; the longest is what the guest felt of the host's doings.
#include "guest_wire.h"

static inline uint64_t ticks(void) {
  uint32_t low, high;
  __asm__ volatile("lfence; rdtsc; lfence" : "=a"(low), "=d"(high)::"memory");
  return (uint64_t)high << 32 | low;
}

static inline void tell(uint16_t port) {
  __asm__ volatile("outb %%al, %%dx" ::"a"(0), "d"(port) : "memory");
}

// The compiler and page_content.c call these.
void* memset(void* into, int value, unsigned long bytes) {
  void* at = into;
  __asm__ volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(value) : "memory");
  return into;
}
void* memcpy(void* into, const void* from, unsigned long bytes) {
  void* at = into;
  __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(bytes)::"memory");
  return into;
}

typedef struct {
  Mailbox* mailbox;
  uint32_t* generations;
  uint64_t random;
  uint64_t reported;
  uint32_t own_pages;
  uint32_t sweep_at;
} Guest;

static uint32_t page_number(const Guest* g, uint32_t own) {
  return own * g->mailbox->vcpus + g->mailbox->vcpu;
}

static uint64_t* page_words(const Guest* g, uint32_t own) {
  return (uint64_t*)(g->mailbox->pages_address + (uint64_t)page_number(g, own) * kPageBytes);
}

static void note(Guest* g, uint64_t since) {
  const uint64_t spent = ticks() - since;
  if (spent > g->mailbox->longest_ticks) g->mailbox->longest_ticks = spent;
}

static void maybe_report(Guest* g) {
  const uint64_t now = ticks();
  if (now - g->reported < g->mailbox->report_ticks) return;
  g->reported = now;
  tell(kPortProgress);
  g->mailbox->longest_ticks = 0;
}

static void write_own(Guest* g, uint32_t own) {
  Mailbox* m = g->mailbox;
  const uint64_t began = ticks();
  write_page(&m->content, page_words(g, own), page_number(g, own), g->generations[own]);
  note(g, began);
  m->writes++;
}

static void check(Guest* g, uint32_t own) {
  Mailbox* m = g->mailbox;
  const uint32_t page = page_number(g, own);
  const uint64_t began = ticks();
  const bool good = is_expected(&m->content, page_words(g, own), page, g->generations[own]);
  note(g, began);
  m->verified++;
  if (good) return;
  m->errors++;
  m->error_page = page;
  m->error_generation = g->generations[own];
  m->error_kind = (uint32_t)damage_kind(&m->content, page_words(g, own), page)[0];
  tell(kPortError);
  g->generations[own]++;
  write_own(g, own);
}

static uint32_t below(Guest* g, uint32_t limit) {
  return (uint32_t)(((next_random(&g->random) >> 32) * limit) >> 32);
}

static void access_one(Guest* g, uint32_t own) {
  const bool writing = below(g, 100) < g->mailbox->write_percent;
  // One write in four comes blind: it faults differently in the host.
  if (!writing || below(g, 4) != 0) check(g, own);
  if (!writing) return;
  g->generations[own]++;
  write_own(g, own);
}

static void verify(Guest* g) {
  Mailbox* m = g->mailbox;
  const uint32_t hot = g->own_pages / 3 + 1;
  while (!m->stop) {
    const bool sweep = below(g, 10) == 0;
    for (int i = 0; i < 16; i++) {
      if (sweep) {
        access_one(g, g->sweep_at);
        g->sweep_at = (g->sweep_at + 1) % g->own_pages;
      } else {
        access_one(g, below(g, 100) < 70 ? below(g, hot) : below(g, g->own_pages));
      }
    }
    maybe_report(g);
  }
  for (uint32_t own = 0; own < g->own_pages && m->sweep; own++) {
    check(g, own);
    maybe_report(g);
  }
  m->complete = m->sweep;
}

static void forget_measurement(Mailbox* m) {
  m->measured_pages = m->measured_ticks = 0;
  memset(m->histogram, 0, sizeof m->histogram);
}

// Touches one page, read (or write, for the first touch), and books how long it took.
static void touch(Mailbox* m, volatile uint64_t* word, bool writing) {
  const uint64_t began = ticks();
  if (writing) {
    *word = 1;
  } else {
    (void)*word;
  }
  const uint64_t spent = ticks() - began;
  m->measured_pages++;
  m->measured_ticks += spent;
  m->histogram[bucket_of(spent)]++;
  if (spent > m->longest_ticks) m->longest_ticks = spent;
}

static void fill(Guest* g) {
  Mailbox* m = g->mailbox;
  forget_measurement(m);
  for (uint32_t own = 0; own < g->own_pages; own++) {
    touch(m, page_words(g, own), true);
    write_own(g, own);
    m->filled++;
    if (own % 16 == 0) maybe_report(g);
  }
}

// A permutation of [0, 2^bits) that no stride detector knows, walked until it falls inside.
static uint32_t permuted(uint32_t index, uint32_t limit, uint64_t seed) {
  uint32_t bits = 2;
  while ((1u << bits) < limit) bits++;
  const uint32_t mask = (1u << bits) - 1, a = (uint32_t)(seed | 5), b = (uint32_t)(seed >> 32 | 3);
  do {
    for (int round = 0; round < 3; round++) {
      index = (index * (a | 1) + b) & mask;
      index ^= index >> (bits / 2);
    }
  } while (index >= limit);
  return index;
}

static void measure(Guest* g) {
  Mailbox* m = g->mailbox;
  forget_measurement(m);
  if (m->mode == kModeWalk) {
    for (uint32_t own = 0; own < g->own_pages; own++) touch(m, page_words(g, own), false);
    return;
  }
  // One page of each window, windows in random order: neighbours brought back by an answer are
  // not measured as if they had faulted.
  const uint32_t windows = g->own_pages / m->sample_every;
  const uint64_t seed = next_random(&g->random);
  for (uint32_t i = 0; i < windows; i++) {
    const uint32_t window = permuted(i, windows, seed);
    touch(m, page_words(g, window * m->sample_every + below(g, m->sample_every)), false);
  }
}

__attribute__((section(".text.entry"), noreturn, used)) void guest_main(Mailbox* mailbox) {
  Guest g = {0};
  g.mailbox = mailbox;
  g.generations = (uint32_t*)mailbox->generations_address;
  g.random = mix64(mailbox->content.seed + mailbox->vcpu) | 1;
  g.own_pages = (mailbox->pages - mailbox->vcpu + mailbox->vcpus - 1) / mailbox->vcpus;
  g.reported = ticks();
  fill(&g);
  tell(kPortFilled);
  mailbox->longest_ticks = 0;
  for (;;) {
    if (mailbox->mode == kModeVerify) {
      verify(&g);
    } else {
      measure(&g);
    }
    tell(kPortDone);
  }
}
