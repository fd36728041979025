// reader: a program that is as fast as the guest's page cache is large. It reads blocks of a file,
// chosen at random and all alike, and thinks between two reads; what is not in memory comes from
// the disk. With a disk much slower than memory its throughput tells how much of the file is
// cached.
//
//   reader FILE THINK_US SECONDS
//
// Output: once a second READER t=12 mb=3.1, the bytes read in that second; READER-DONE mb_per_s=3.0
// at the end, the mean of the whole run.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { kBlockBytes = 16384 };

static double now_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

// xorshift64: any sequence will do.
static uint64_t next_random(uint64_t* state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

static double megabytes(uint64_t blocks) { return (double)blocks * kBlockBytes / (1 << 20); }

int main(int argc, char** argv) {
  if (argc != 4) {
    fputs("usage: reader FILE THINK_US SECONDS\n", stderr);
    return 2;
  }
  const int file = open(argv[1], O_RDONLY | O_CLOEXEC);
  struct stat info;
  if (file < 0 || fstat(file, &info) != 0) {
    perror(argv[1]);
    return 2;
  }
  const uint64_t blocks = (uint64_t)info.st_size / kBlockBytes;
  const useconds_t think = (useconds_t)atoi(argv[2]);
  const double seconds = atof(argv[3]);
  if (blocks == 0 || seconds <= 0) return 2;
  posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM);  // no read-ahead: a miss costs one block
  setvbuf(stdout, NULL, _IOLBF, 0);

  static char block[kBlockBytes];
  const double began = now_seconds();
  uint64_t random = 88172645463325252u, read = 0, told = 0;
  double next_line = began + 1;
  for (double now = began; now < began + seconds; now = now_seconds()) {
    const off_t at = (off_t)(next_random(&random) % blocks) * kBlockBytes;
    if (pread(file, block, sizeof block, at) != (ssize_t)sizeof block) {
      perror("reader: pread");
      return 1;
    }
    read++;
    if (think > 0) usleep(think);
    if (now < next_line) continue;
    printf("READER t=%.0f mb=%.2f\n", now - began, megabytes(read - told));
    told = read;
    next_line += 1;
  }
  printf("READER-DONE mb_per_s=%.3f\n", megabytes(read) / (now_seconds() - began));
  return 0;
}
