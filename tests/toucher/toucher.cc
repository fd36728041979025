// ballast-toucher: takes QEMU's place at native speed: maps a memory file as QEMU maps guest RAM
// and times its own touches of it. With the agent preloaded the daemon serves them; without it the
// kernel does, and the same program is the peer (pages pushed out by MADV_PAGEOUT to whatever swap
// there is).
//
// Obeys one-line commands on stdin; each is answered by one line on stdout, JSON where there is
// something to tell:
//   fill          first touches in order (latencies), then content and checksums
//   pageout       asks the kernel to swap everything out
//   resident      how many pages are in memory or in the swap cache
//   random EVERY  touches one page of each window of EVERY pages, windows in random order
//   (latencies) walk          touches all pages in order (latencies; mean is per page of the walk)
//   check         compares all pages with what was written
//   lz4 CAPACITY  bare LZ4 on the same pages with that room for the result (0: enough for any)
//   pin CPU       runs on that CPU from now on; -1: on any
#include <getopt.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

#include "content.h"

namespace ballast::toucher {
namespace {

using Clock = std::chrono::steady_clock;

double micros(Clock::duration spent) {
  return std::chrono::duration<double, std::micro>(spent).count();
}

struct Latencies {
  std::vector<double> us;
  double total_us = 0;
};

void print(const char* what, Latencies&& latencies) {
  auto& us = latencies.us;
  std::sort(us.begin(), us.end());
  auto at = [&](double part) {
    return us[std::min(us.size() - 1, static_cast<size_t>(part * static_cast<double>(us.size())))];
  };
  printf(
      "{\"what\":\"%s\",\"pages\":%zu,\"mean_us\":%.3f,\"p50_us\":%.3f,\"p90_us\":%.3f,\"p99_us\":%"
      ".3f,\"max_us\":%.1f}\n",
      what, us.size(), latencies.total_us / static_cast<double>(us.size()), at(0.5), at(0.9),
      at(0.99), us.back());
}

class Toucher {
 public:
  Toucher(size_t pages, const std::string& file, Only only, uint64_t seed)
      : pages_(pages), content_(Content::make(file, only, pages)), random_(seed) {
    const int memory = memfd_create("toucher-ram", MFD_CLOEXEC);
    if (memory < 0 || ftruncate(memory, static_cast<off_t>(pages * kPageBytes)) != 0) {
      die("memfd: %s", strerror(errno));
    }
    void* mapped = mmap(nullptr, pages * kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    if (mapped == MAP_FAILED) die("mapping the memory file: %s", strerror(errno));
    ram_ = static_cast<std::byte*>(mapped);
    madvise(ram_, pages * kPageBytes, MADV_NOHUGEPAGE);
  }

  // False: unknown command.
  bool obey(const char* line) {
    int number = 0;
    if (strcmp(line, "fill\n") == 0) {
      fill();
    } else if (strcmp(line, "pageout\n") == 0) {
      const int result = madvise(ram_, pages_ * kPageBytes, MADV_PAGEOUT);
      printf("{\"resident\":%zu,\"error\":%d}\n", resident(), result == 0 ? 0 : errno);
    } else if (strcmp(line, "resident\n") == 0) {
      printf("{\"resident\":%zu}\n", resident());
    } else if (sscanf(line, "random %d", &number) == 1 && number > 0) {
      touch_random(static_cast<size_t>(number));
    } else if (strcmp(line, "walk\n") == 0) {
      walk();
    } else if (strcmp(line, "check\n") == 0) {
      check();
    } else if (sscanf(line, "lz4 %d", &number) == 1 && number >= 0) {
      const size_t count = std::min(pages_, content_.pages());
      const auto speed = measure_lz4(content_, count, number == 0 ? 8192 : number);
      printf(
          "{\"pages\":%zu,\"seconds\":%.6f,\"pages_per_second\":%.0f,\"fitted\":%zu,\"bytes\":%zu}"
          "\n",
          count, speed.seconds, static_cast<double>(count) / speed.seconds, speed.fitted,
          speed.bytes);
    } else if (sscanf(line, "pin %d", &number) == 1) {
      pin(number);
    } else {
      return false;
    }
    fflush(stdout);
    return true;
  }

 private:
  volatile uint64_t* word(size_t page) {
    return reinterpret_cast<volatile uint64_t*>(ram_ + page * kPageBytes);
  }

  void fill() {
    Latencies latencies;
    latencies.us.reserve(pages_);
    const auto start = Clock::now();
    for (size_t i = 0; i < pages_; ++i) {
      const auto began = Clock::now();
      *word(i) = 1;
      latencies.us.push_back(micros(Clock::now() - began));
    }
    latencies.total_us = micros(Clock::now() - start);
    for (size_t i = 0; i < pages_; ++i) memcpy(ram_ + i * kPageBytes, content_.page(i), kPageBytes);
    print("fill", std::move(latencies));
  }

  void touch_random(size_t every) {
    std::vector<size_t> order(std::max<size_t>(1, pages_ / every));
    for (size_t i = 0; i < order.size(); ++i) order[i] = i * every + random_() % every;
    std::shuffle(order.begin(), order.end(), random_);
    Latencies latencies;
    latencies.us.reserve(order.size());
    for (const size_t page : order) {
      const auto began = Clock::now();
      (void)*word(page);
      latencies.us.push_back(micros(Clock::now() - began));
      latencies.total_us += latencies.us.back();
    }
    print("random", std::move(latencies));
  }

  void walk() {
    Latencies latencies;
    latencies.us.reserve(pages_);
    const auto start = Clock::now();
    for (size_t i = 0; i < pages_; ++i) {
      const auto began = Clock::now();
      (void)*word(i);
      latencies.us.push_back(micros(Clock::now() - began));
    }
    latencies.total_us = micros(Clock::now() - start);
    print("walk", std::move(latencies));
  }

  void check() {
    size_t errors = 0;
    for (size_t i = 0; i < pages_; ++i)
      errors += memcmp(ram_ + i * kPageBytes, content_.page(i), kPageBytes) != 0;
    printf("{\"pages\":%zu,\"errors\":%zu}\n", pages_, errors);
  }

  size_t resident() const {
    std::vector<unsigned char> present(pages_);
    if (mincore(ram_, pages_ * kPageBytes, present.data()) != 0)
      die("mincore: %s", strerror(errno));
    return static_cast<size_t>(
        std::count_if(present.begin(), present.end(), [](unsigned char p) { return p & 1; }));
  }

  static void pin(int cpu) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    for (int i = 0; i < CPU_SETSIZE; ++i) {
      if (cpu < 0 || i == cpu) CPU_SET(static_cast<size_t>(i), &cpus);
    }
    printf("{\"pinned\":%d}\n", sched_setaffinity(0, sizeof cpus, &cpus) == 0 ? cpu : -1);
  }

  const size_t pages_;
  const Content content_;
  std::byte* ram_ = nullptr;
  std::mt19937_64 random_;
};

}  // namespace

int run(int argc, char** argv) {
  static const option kOptions[] = {{"mib", 1, nullptr, 'm'},
                                    {"content", 1, nullptr, 'c'},
                                    {"only", 1, nullptr, 'o'},
                                    {"seed", 1, nullptr, 's'},
                                    {nullptr, 0, nullptr, 0}};
  size_t mib = 64;
  uint64_t seed = 1;
  std::string file;
  Only only = Only::kAll;
  for (int found; (found = getopt_long(argc, argv, "", kOptions, nullptr)) != -1;) {
    if (found == 'm') mib = strtoull(optarg, nullptr, 10);
    if (found == 's') seed = strtoull(optarg, nullptr, 10);
    if (found == 'c') file = optarg;
    if (found == 'o') {
      only = strcmp(optarg, "compressible") == 0     ? Only::kCompressible
             : strcmp(optarg, "incompressible") == 0 ? Only::kIncompressible
                                                     : Only::kAll;
    }
    if (found == '?') {
      die("usage: ballast-toucher [--mib N] [--content FILE] [--only "
          "compressible|incompressible|all] [--seed N]");
    }
  }
  if (mib == 0 || mib > 65536) die("--mib is a number from 1 to 65536");
  Toucher toucher(mib * 256, file, only, seed);
  printf("ready\n");
  fflush(stdout);
  char line[128];
  while (fgets(line, sizeof line, stdin) != nullptr) {
    if (!toucher.obey(line)) die("unknown command: %s", line);
  }
  return 0;
}

}  // namespace ballast::toucher

int main(int argc, char** argv) { return ballast::toucher::run(argc, argv); }
