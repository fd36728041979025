/* Takes QEMU's place in front of the agent: maps shared memory as QEMU does and obeys one-line
 * commands on stdin, each answered by one line on stdout ("ok ..." or "error ..."): map I PAGES
 * memfd I of that many pages, mapped shared ("ok ADDRESS", "error ERRNO") again I                a
 * second mapping of memfd I write I PAGE TEXT      copies TEXT to the page's start read I PAGE "ok
 * TEXT", the page's start punch I OFFSET BYTES   frees that range of the file env NAME "ok VALUE"
 *   fork                   forks a child that punches and exits; "ok STATUS"
 *   threads                "ok N", threads of this process
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
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

int main(void) {
  char line[256];
  char text[128];
  long long a = 0;
  long long b = 0;
  int i = 0;
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
      printf(punch(i, a, b) == 0 ? "ok\n" : "error %d\n", errno);
    } else if (sscanf(line, "env %100s", text) == 1) {
      const char* value = getenv(text);
      printf("ok %s\n", value != NULL ? value : "");
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
