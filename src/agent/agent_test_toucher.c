/* Takes QEMU's place in front of the agent: maps shared memory as QEMU does and obeys one-line
 * commands on stdin, each answered by one line on stdout ("ok ..." or "error ..."):
 *
 *   map I PAGES            memfd I of that many pages, mapped shared ("ok ADDRESS", "error ERRNO")
 *   again I                a second mapping of memfd I
 *   write I PAGE TEXT      copies TEXT to the page's start
 *   read I PAGE            "ok TEXT", the page's start
 *   punch I OFFSET BYTES   frees that range of the file
 *   advise I ADVICE        madvise of the whole mapping
 *   zap I PAGE PAGES       madvise(MADV_DONTNEED)
 *   remove I PAGE PAGES    madvise(MADV_REMOVE)
 *   env NAME               "ok VALUE"
 *   fork                   forks a child that punches and exits; "ok STATUS"
 *   threads                "ok N", threads of this process
 *   storm I PUNCHES        starts a thread that writes, reads and (PUNCHES: every so many
 *                          accesses) gives up random pages of memory I, which hold zeros
 *   calm                   ends it; "ok WRITES WRONG": pages that held something else than written
 *
 * A vCPU's access is answered when it ends, "vcpu V VALUE"; other commands are obeyed meanwhile:
 *
 *   vcpu V read I PAGE            the page's first word
 *   vcpu V write I PAGE VALUE
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kMemories = 8, kPageBytes = 4096 };
static int fds[kMemories];
static size_t sizes[kMemories];
static char* mappings[kMemories];

static void map(int i, size_t pages) {
  fds[i] = memfd_create("memory-backend-memfd", MFD_CLOEXEC);
  sizes[i] = pages * kPageBytes;
  if (fds[i] < 0 || ftruncate(fds[i], (off_t)sizes[i]) != 0) abort();
  mappings[i] = mmap64(NULL, sizes[i], PROT_READ | PROT_WRITE, MAP_SHARED, fds[i], 0);
  if (mappings[i] == MAP_FAILED) {
    printf("error %d\n", errno);
  } else {
    printf("ok %llu\n", (unsigned long long)(size_t)mappings[i]);
  }
}

static int punch(int i, long long offset, long long bytes) {
  errno = 77; /* the agent must leave it alone */
  const int result =
      fallocate64(fds[i], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes);
  return result == 0 && errno == 77 ? 0 : -1;
}

static int count_threads(void) {
  int threads = 0;
  DIR* tasks = opendir("/proc/self/task");
  for (struct dirent* entry; (entry = readdir(tasks)) != NULL;) threads += entry->d_name[0] != '.';
  closedir(tasks);
  return threads;
}

static int fork_and_punch(void) {
  const pid_t child = fork();
  if (child == 0) _exit(punch(0, 0, kPageBytes) == 0 ? 0 : 1);
  int status = -1;
  waitpid(child, &status, 0);
  return status;
}

/* The guest of the storm: page p holds pattern[p] in three places. */
static struct {
  pthread_t thread;
  atomic_bool stop;
  int memory;
  unsigned punches;
  uint64_t writes;
  uint64_t wrong;
  uint64_t* pattern;
} storm;
static const size_t kPlaces[3] = {511, 0, 200};

static void check_page(size_t page) {
  const volatile uint64_t* words =
      (const volatile uint64_t*)(mappings[storm.memory] + page * kPageBytes);
  for (int i = 0; i < 3; ++i) {
    if (words[kPlaces[i]] == storm.pattern[page]) continue;
    ++storm.wrong;
    fprintf(stderr, "page %zu place %d: %llx, not %llx\n", page, i,
            (unsigned long long)words[kPlaces[i]], (unsigned long long)storm.pattern[page]);
    storm.pattern[page] = words[kPlaces[i]];
  }
}

static void write_page(size_t page) {
  volatile uint64_t* words = (volatile uint64_t*)(mappings[storm.memory] + page * kPageBytes);
  storm.pattern[page] = (uint64_t)(page + 1) << 32 | (uint32_t)++storm.writes;
  for (int i = 0; i < 3; ++i) words[kPlaces[i]] = storm.pattern[page];
}

static void* run_storm(void* unused) {
  const size_t pages = sizes[storm.memory] / kPageBytes;
  uint64_t random = 88172645463325252u;
  while (!atomic_load(&storm.stop)) {
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    const size_t page = random % pages;
    check_page(page);
    if (storm.punches != 0 && (random >> 32) % storm.punches == 0) {
      if (punch(storm.memory, (long long)(page * kPageBytes), kPageBytes) != 0) abort();
      storm.pattern[page] = 0;
    } else if ((random >> 60) < 6) {
      write_page(page);
    }
  }
  for (size_t page = 0; page < pages; ++page) check_page(page);
  return unused;
}

static void start_storm(int i, unsigned punches) {
  storm.memory = i;
  storm.punches = punches;
  storm.writes = 0;
  storm.wrong = 0;
  storm.pattern = calloc(sizes[i] / kPageBytes, sizeof(uint64_t));
  atomic_store(&storm.stop, 0);
  if (pthread_create(&storm.thread, NULL, run_storm, NULL) != 0) abort();
}

static void end_storm(void) {
  atomic_store(&storm.stop, 1);
  pthread_join(storm.thread, NULL);
  free(storm.pattern);
}

/* One access, in a thread of its own: it may sleep. */
struct access {
  int vcpu;
  volatile uint64_t* word;
  int writes;
  uint64_t value;
};

static void* run_access(void* argument) {
  struct access* access = argument;
  if (access->writes) {
    *access->word = access->value;
  } else {
    access->value = *access->word;
  }
  printf("vcpu %d %llu\n", access->vcpu, (unsigned long long)access->value);
  fflush(stdout);
  free(access);
  return NULL;
}

static void start_access(int vcpu, int i, long long page, int writes, uint64_t value) {
  struct access* access = malloc(sizeof(*access));
  *access = (struct access){vcpu, (volatile uint64_t*)(mappings[i] + page * kPageBytes), writes,
                            value};
  pthread_t thread;
  if (pthread_create(&thread, NULL, run_access, access) != 0) abort();
  pthread_detach(thread);
}

int main(void) {
  char line[256];
  char text[128];
  long long a = 0;
  long long b = 0;
  unsigned long long value = 0;
  int i = 0;
  int vcpu = 0;
  while (fgets(line, sizeof(line), stdin) != NULL) {
    if (sscanf(line, "map %d %lld", &i, &a) == 2) {
      map(i, (size_t)a);
    } else if (sscanf(line, "again %d", &i) == 1) {
      const void* second = mmap64(NULL, sizes[i], PROT_READ | PROT_WRITE, MAP_SHARED, fds[i], 0);
      printf(second == MAP_FAILED ? "error %d\n" : "ok %d\n", second == MAP_FAILED ? errno : 0);
    } else if (sscanf(line, "write %d %lld %100s", &i, &a, text) == 3) {
      strcpy(mappings[i] + a * kPageBytes, text);
      printf("ok\n");
    } else if (sscanf(line, "read %d %lld", &i, &a) == 2) {
      printf("ok %.100s\n", mappings[i] + a * kPageBytes);
    } else if (sscanf(line, "punch %d %lld %lld", &i, &a, &b) == 3) {
      const int result = punch(i, a, b);
      printf(result == 0 ? "ok\n" : "error %d\n", errno);
    } else if (sscanf(line, "advise %d %lld", &i, &a) == 2) {
      const int result = madvise(mappings[i], sizes[i], (int)a);
      printf(result == 0 ? "ok\n" : "error %d\n", errno);
    } else if (sscanf(line, "zap %d %lld %lld", &i, &a, &b) == 3) {
      const int result =
          madvise(mappings[i] + a * kPageBytes, (size_t)b * kPageBytes, MADV_DONTNEED);
      printf(result == 0 ? "ok\n" : "error %d\n", errno);
    } else if (sscanf(line, "remove %d %lld %lld", &i, &a, &b) == 3) {
      const int result = madvise(mappings[i] + a * kPageBytes, (size_t)b * kPageBytes, MADV_REMOVE);
      printf(result == 0 ? "ok\n" : "error %d\n", errno);
    } else if (sscanf(line, "storm %d %lld", &i, &a) == 2) {
      start_storm(i, (unsigned)a);
      printf("ok\n");
    } else if (strcmp(line, "calm\n") == 0) {
      end_storm();
      printf("ok %llu %llu\n", (unsigned long long)storm.writes, (unsigned long long)storm.wrong);
    } else if (sscanf(line, "env %100s", text) == 1) {
      const char* value = getenv(text);
      printf("ok %s\n", value != NULL ? value : "");
    } else if (sscanf(line, "vcpu %d read %d %lld", &vcpu, &i, &a) == 3) {
      start_access(vcpu, i, a, 0, 0);
    } else if (sscanf(line, "vcpu %d write %d %lld %llu", &vcpu, &i, &a, &value) == 4) {
      start_access(vcpu, i, a, 1, value);
    } else if (strcmp(line, "fork\n") == 0) {
      printf("ok %d\n", fork_and_punch());
    } else if (strcmp(line, "threads\n") == 0) {
      printf("ok %d\n", count_threads());
    } else {
      printf("error unknown command\n");
    }
    fflush(stdout);
  }
  return 0;
}
