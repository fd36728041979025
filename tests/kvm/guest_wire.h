// guest_wire.h: what the micro-VM's guest program and its VMM share: the memory map and the
// mailboxes.
//
// Guest addresses are physical = virtual (identity map of 2 MiB pages). All of it, page tables
// included, lies in the one memory file that the daemon owns, so all of it may be evicted at any
// time.
//   0x1000          page tables
//   0x10000         the guest program (flat binary, entry at its first byte)
//   0x40000 + 64 K  per vCPU: its mailbox, its stack grows down from the end
//   0x200000        per vCPU: generations, 4 bytes per page
//   later           the pages under test; page p belongs to vCPU p % vcpus
#ifndef BALLAST_TESTS_KVM_GUEST_WIRE_H_
#define BALLAST_TESTS_KVM_GUEST_WIRE_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#include "../guest/page_content.h"
#ifdef __cplusplus
}
#endif

enum {
  kTablesAddress = 0x1000,
  kCodeAddress = 0x10000,
  kCodeBytesMax = 0x30000,
  kMailboxAddress = 0x40000,
  kMailboxStride = 0x10000,
  kGenerationsAddress = 0x200000,
  kVcpusMax = 4,
};

// What the guest says by `out` on these ports; the details are in its mailbox.
enum {
  kPortProgress = 0x10,
  kPortError = 0x11,   // mailbox.error_*
  kPortFilled = 0x12,  // all own pages written; histogram = first touches
  kPortDone = 0x13,    // final check or measurement complete; resumed for another round
};

enum GuestMode { kModeVerify, kModeWalk, kModeRandom };

// Latencies in TSC ticks: 16 buckets per octave, so 6 % resolution.
enum { kBucketBits = 4, kBuckets = 40 << kBucketBits };

typedef struct {
  // Set by the VMM before the start.
  ContentSpec content;
  uint64_t pages_address;
  uint64_t generations_address;
  uint64_t report_ticks;  // between two kPortProgress
  uint32_t pages;         // of all vCPUs
  uint32_t vcpu;
  uint32_t vcpus;
  uint32_t mode;
  uint32_t write_percent;
  uint32_t sample_every;    // walk, random: touch one page of so many
  volatile uint32_t stop;   // set by the VMM at any kPortProgress
  volatile uint32_t sweep;  // kModeVerify: make the final check before kPortDone
  // Told by the guest.
  uint32_t complete;
  uint64_t filled, verified, writes, errors;
  uint64_t longest_ticks;  // one access, since the last report
  uint32_t error_page, error_generation;
  uint32_t error_kind;  // 'z'ero, 's'tale, 'f'oreign, 'c'orrupt
  uint64_t measured_pages, measured_ticks;
  uint32_t histogram[kBuckets];
} Mailbox;

static inline uint32_t bucket_of(uint64_t ticks) {
  if (ticks < (1u << kBucketBits)) return (uint32_t)ticks;
  uint32_t octave = 63u - (uint32_t)__builtin_clzll(ticks);
  uint32_t bucket = ((octave - kBucketBits + 1) << kBucketBits) |
                    (uint32_t)((ticks >> (octave - kBucketBits)) & ((1u << kBucketBits) - 1));
  return bucket < kBuckets ? bucket : kBuckets - 1;
}

// The middle of a bucket.
static inline double bucket_ticks(uint32_t bucket) {
  if (bucket < (1u << kBucketBits)) return bucket;
  uint32_t octave = (bucket >> kBucketBits) + kBucketBits - 1;
  uint32_t part = (bucket & ((1u << kBucketBits) - 1)) | (1u << kBucketBits);
  return ((double)part + 0.5) * (double)((uint64_t)1 << (octave - kBucketBits));
}

#endif  // BALLAST_TESTS_KVM_GUEST_WIRE_H_
