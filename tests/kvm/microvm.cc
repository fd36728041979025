// ballast-microvm: a virtual machine of a few hundred lines that takes QEMU's place in front of the
// agent, to test and measure the KVM path where no Linux guest can boot under KVM. Preload
// libballast-agent.so as ballast-qemu does.
//
// Prints the same lines as the Linux guest's verifier (BALLAST-VERIFY, -ERROR, -DONE), and for
// measurements
//   BALLAST-FILLED {json}     first-touch latencies
//   BALLAST-MEASURED {json}   walk or random access latencies
// With --interactive it waits for a line on stdin after each of these two: "go" (another round),
// else the end. Exit status: 0 no errors, 1 errors, 2 wrong usage, 3 KVM cannot do it.
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "guest_wire.h"
#include "vcpu.h"

__asm__(
    ".pushsection .rodata\n"
    ".global ballast_guest_begin, ballast_guest_end\n"
    "ballast_guest_begin: .incbin \"" BALLAST_GUEST_BINARY
    "\"\n"
    "ballast_guest_end:\n"
    ".popsection\n");
extern "C" const char ballast_guest_begin[];
extern "C" const char ballast_guest_end[];

namespace ballast::microvm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr char kUsage[] =
    "usage: ballast-microvm [options]\n"
    "  --mib N            pages under test, MiB (64)\n"
    "  --ram N            the VM's memory, MiB (mib + 4); BALLAST_VM_MEMORY must say the same\n"
    "  --vcpus N          1 to 4 (1)\n"
    "  --irqchip on|off   interrupt controller in the kernel, which makes page faults asynchronous "
    "(on)\n"
    "  --mode MODE        verify, walk or random (verify)\n"
    "  --seconds N        verify: stop N seconds after the fill (10)\n"
    "  --mix SPEC         percent of pages of each content (zero:10,lz50:60,random:30)\n"
    "  --write-percent P  verify: accesses that rewrite the page (20)\n"
    "  --sample-every N   random: touch one page of so many (32)\n"
    "  --rounds N         walk, random: measurements (1)\n"
    "  --seed N           of contents and choices (1)\n"
    "  --pin CPU          run all vCPUs on this CPU\n"
    "  --inject           flip one bit after the fill: the check must notice\n"
    "  --interactive      wait for 'go' on stdin between steps\n";

[[noreturn]] void usage_error(const char* what, const char* value) {
  fprintf(stderr, "ballast-microvm: %s '%s'\n%s", what, value, kUsage);
  exit(2);
}

struct Options {
  ContentSpec content{1, {10, 60, 30}};
  uint32_t mib = 64;
  uint32_t ram_mib = 0;
  uint32_t vcpus = 1;
  uint32_t seconds = 10;
  uint32_t write_percent = 20;
  uint32_t sample_every = 32;
  uint32_t rounds = 1;
  int pin = -1;
  GuestMode mode = kModeVerify;
  bool irqchip = true;
  bool inject = false;
  bool interactive = false;
};

uint32_t parse_number(const char* name, const char* text, uint32_t low, uint32_t high) {
  char* end = nullptr;
  const unsigned long long value = strtoull(text, &end, 10);
  if (*text < '0' || *text > '9' || *end != '\0' || value < low || value > high) {
    usage_error(name, text);
  }
  return static_cast<uint32_t>(value);
}

void parse_mix(const char* text, ContentSpec& content) {
  auto& mix = content.mix;
  char rest = 0;
  const int found = sscanf(text, "zero:%u,lz50:%u,random:%u%c", &mix[0], &mix[1], &mix[2], &rest);
  if (found != 3 || mix[0] + mix[1] + mix[2] != 100) {
    usage_error("--mix needs the form zero:A,lz50:B,random:C with a sum of 100, not", text);
  }
}

GuestMode parse_mode(const std::string& text) {
  if (text == "verify") return kModeVerify;
  if (text == "walk") return kModeWalk;
  if (text == "random") return kModeRandom;
  usage_error("--mode knows verify, walk and random, not", text.c_str());
}

Options parse_options(int argc, char** argv) {
  static const option kOptions[] = {
      {"mib", 1, nullptr, 'm'},    {"ram", 1, nullptr, 'R'},
      {"vcpus", 1, nullptr, 'c'},  {"irqchip", 1, nullptr, 'i'},
      {"mode", 1, nullptr, 'o'},   {"seconds", 1, nullptr, 't'},
      {"mix", 1, nullptr, 'x'},    {"write-percent", 1, nullptr, 'w'},
      {"seed", 1, nullptr, 's'},   {"sample-every", 1, nullptr, 'e'},
      {"rounds", 1, nullptr, 'r'}, {"pin", 1, nullptr, 'p'},
      {"inject", 0, nullptr, 'j'}, {"interactive", 0, nullptr, 'I'},
      {nullptr, 0, nullptr, 0},
  };
  Options o;
  for (int found; (found = getopt_long(argc, argv, "", kOptions, nullptr)) != -1;) {
    if (found == 'm') o.mib = parse_number("--mib", optarg, 1, 8192);
    if (found == 'R') o.ram_mib = parse_number("--ram", optarg, 1, 12288);
    if (found == 'c') o.vcpus = parse_number("--vcpus", optarg, 1, kVcpusMax);
    if (found == 't') o.seconds = parse_number("--seconds", optarg, 0, 1u << 30);
    if (found == 'w') o.write_percent = parse_number("--write-percent", optarg, 0, 100);
    if (found == 's') o.content.seed = parse_number("--seed", optarg, 0, UINT32_MAX);
    if (found == 'e') o.sample_every = parse_number("--sample-every", optarg, 1, 4096);
    if (found == 'r') o.rounds = parse_number("--rounds", optarg, 1, 1u << 20);
    if (found == 'p') o.pin = static_cast<int>(parse_number("--pin", optarg, 0, CPU_SETSIZE - 1));
    if (found == 'x') parse_mix(optarg, o.content);
    if (found == 'o') o.mode = parse_mode(optarg);
    if (found == 'i') {
      o.irqchip = strcmp(optarg, "on") == 0;
      if (!o.irqchip && strcmp(optarg, "off") != 0)
        usage_error("--irqchip is on or off, not", optarg);
    }
    if (found == 'j') o.inject = true;
    if (found == 'I') o.interactive = true;
    if (found == '?') usage_error("wrong use of", argv[optind - 1]);
  }
  if (optind < argc) usage_error("unexpected argument", argv[optind]);
  if (o.ram_mib == 0) o.ram_mib = o.mib + 4;
  return o;
}

// Lets the vCPU threads go on together: the last one to arrive does what there is to do between two
// steps.
class Gate {
 public:
  explicit Gate(uint32_t threads) : threads_(threads) {}
  template <typename Step>
  bool pass(Step step) {
    std::unique_lock lock(lock_);
    const uint64_t turn = turn_;
    if (++waiting_ == threads_) {
      go_on_ = step();
      waiting_ = 0;
      ++turn_;
      changed_.notify_all();
    } else {
      changed_.wait(lock, [&] { return turn_ != turn; });
    }
    return go_on_;
  }

 private:
  const uint32_t threads_;
  uint32_t waiting_ = 0;
  uint64_t turn_ = 0;
  bool go_on_ = true;
  std::mutex lock_;
  std::condition_variable changed_;
};

struct Totals {
  uint64_t filled = 0, verified = 0, writes = 0, errors = 0;
};

class Machine {
 public:
  explicit Machine(const Options& options);
  int run();

 private:
  Mailbox* mailbox(uint32_t vcpu) const {
    return reinterpret_cast<Mailbox*>(ram_ + kMailboxAddress + vcpu * kMailboxStride);
  }
  void set_up_mailboxes();
  void run_vcpu(uint32_t number);
  bool on_out(uint32_t number, uint16_t port);
  void on_progress(uint32_t number);
  void on_error(uint32_t number);
  bool after_fill();
  bool after_round();
  bool told_to_go() const;
  void flip_a_bit();
  void print_measurement(const char* what) const;
  void print_done() const;
  Totals totals() const;
  double since_start() const {
    return std::chrono::duration<double>(Clock::now() - started_).count();
  }

  const Options options_;
  const Clock::time_point started_ = Clock::now();
  std::byte* ram_ = nullptr;
  size_t ram_bytes_ = 0;
  uint64_t pages_address_ = 0;
  uint32_t pages_ = 0;
  std::unique_ptr<Vm> vm_;
  std::vector<std::unique_ptr<Vcpu>> vcpus_;
  Gate gate_;
  std::mutex lock_;                       // the rest
  std::array<Totals, kVcpusMax> last_{};  // as last told; guest RAM is not read under the lock
  double longest_us_ = 0;
  double reported_ = 0;
  double filled_at_ = -1;
  uint64_t verified_at_report_ = 0;
  uint32_t rounds_done_ = 0;
  uint32_t errors_printed_ = 0;
};

// Copies the numbers out of guest RAM, which may fault and wait.
Totals totals_of(const Mailbox* mailbox) {
  return {mailbox->filled, mailbox->verified, mailbox->writes, mailbox->errors};
}

Machine::Machine(const Options& options) : options_(options), gate_(options.vcpus) {
  ram_bytes_ = size_t{options.ram_mib} << 20;
  pages_ = options.mib * 256;
  const size_t generations = (size_t{pages_} / options.vcpus + 1) * 4 * options.vcpus;
  pages_address_ = (kGenerationsAddress + generations + 4096 * kVcpusMax + 4095) / 4096 * 4096;
  if (pages_address_ + size_t{pages_} * kPageBytes > ram_bytes_) {
    fprintf(stderr, "ballast-microvm: --mib %u does not fit --ram %u\n", options.mib,
            options.ram_mib);
    exit(2);
  }
  const int file = memfd_create("microvm-ram", MFD_CLOEXEC);
  if (file < 0 || ftruncate(file, static_cast<off_t>(ram_bytes_)) != 0)
    die("memfd: %s", strerror(errno));
  void* mapped = mmap(nullptr, ram_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (mapped == MAP_FAILED) die("mapping guest RAM: %s", strerror(errno));
  ram_ = static_cast<std::byte*>(mapped);
  vm_ = std::make_unique<Vm>(ram_, ram_bytes_, options.irqchip);
  const auto program = static_cast<size_t>(ballast_guest_end - ballast_guest_begin);
  if (program > kCodeBytesMax) die("the guest program has %zu bytes", program);
  memcpy(ram_ + kCodeAddress, ballast_guest_begin, program);
  for (uint32_t i = 0; i < options.vcpus; ++i) {
    const uint64_t at = kMailboxAddress + uint64_t{i} * kMailboxStride;
    vcpus_.push_back(std::make_unique<Vcpu>(*vm_, i, kCodeAddress, at + kMailboxStride, at));
  }
  set_up_mailboxes();
}

void Machine::set_up_mailboxes() {
  const uint64_t table = (uint64_t{pages_} / options_.vcpus + 1) * 4;
  for (uint32_t i = 0; i < options_.vcpus; ++i) {
    Mailbox* m = mailbox(i);
    m->content = options_.content;
    m->pages_address = pages_address_;
    m->generations_address = kGenerationsAddress + i * ((table + 4095) / 4096 * 4096);
    m->report_ticks = vcpus_[i]->tsc_khz() * 100;
    m->pages = pages_;
    m->vcpu = i;
    m->vcpus = options_.vcpus;
    m->mode = options_.mode;
    m->write_percent = options_.write_percent;
    m->sample_every = options_.sample_every;
  }
}

int Machine::run() {
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < options_.vcpus; ++i) threads.emplace_back([this, i] { run_vcpu(i); });
  for (std::thread& thread : threads) thread.join();
  if (options_.mode == kModeVerify) print_done();
  return totals().errors == 0 ? 0 : 1;
}

void Machine::run_vcpu(uint32_t number) {
  if (options_.pin >= 0) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(static_cast<size_t>(options_.pin), &cpus);
    if (sched_setaffinity(0, sizeof cpus, &cpus) != 0)
      die("--pin %d: %s", options_.pin, strerror(errno));
  }
  vcpus_[number]->run([&](uint16_t port) { return on_out(number, port); });
}

bool Machine::on_out(uint32_t number, uint16_t port) {
  on_progress(number);
  switch (port) {
    case kPortProgress:
      return true;
    case kPortError:
      on_error(number);
      return true;
    case kPortFilled:
      return gate_.pass([this] { return after_fill(); });
    case kPortDone:
      return gate_.pass([this] { return after_round(); });
    default:
      die("the guest wrote to port %#x", port);
  }
}

void Machine::on_progress(uint32_t number) {
  Mailbox* m = mailbox(number);
  const Totals now = totals_of(m);
  const double longest =
      static_cast<double>(m->longest_ticks) * 1e3 / static_cast<double>(vcpus_[number]->tsc_khz());
  bool stop = false;
  {
    const std::lock_guard guard(lock_);
    last_[number] = now;
    longest_us_ = std::max(longest_us_, longest);
    const double t = since_start();
    stop = filled_at_ >= 0 && t - filled_at_ >= options_.seconds;
    if (t - reported_ >= 1 && options_.mode == kModeVerify) {
      const Totals sum = totals();
      printf(
          "BALLAST-VERIFY t=%.1f filled=%llu verified=%llu writes=%llu errors=%llu rate=%.0f "
          "stall_us=%.0f\n",
          t, static_cast<unsigned long long>(sum.filled),
          static_cast<unsigned long long>(sum.verified),
          static_cast<unsigned long long>(sum.writes), static_cast<unsigned long long>(sum.errors),
          static_cast<double>(sum.verified - verified_at_report_) / (t - reported_), longest_us_);
      fflush(stdout);
      verified_at_report_ = sum.verified;
      reported_ = t;
      longest_us_ = 0;
    }
  }
  if (stop && m->stop == 0) {
    m->sweep = 1;
    m->stop = 1;
  }
}

void Machine::on_error(uint32_t number) {
  const Mailbox* m = mailbox(number);
  const uint32_t page = m->error_page, generation = m->error_generation;
  const auto kind = static_cast<char>(m->error_kind);
  const char* name = kind == 'z'   ? "zero"
                     : kind == 's' ? "stale"
                     : kind == 'f' ? "foreign"
                                   : "corrupt";
  const std::lock_guard guard(lock_);
  if (++errors_printed_ > 20) return;
  printf("BALLAST-ERROR page=%u kind=%s frame=0x%llx expected_generation=%u vcpu=%u\n", page, name,
         static_cast<unsigned long long>(pages_address_ / kPageBytes + page), generation, number);
  fflush(stdout);
}

// Runs on one vCPU's thread while the others wait.
bool Machine::after_fill() {
  print_measurement("BALLAST-FILLED");
  if (options_.inject) flip_a_bit();
  const bool go = !options_.interactive || told_to_go();
  const std::lock_guard guard(lock_);
  filled_at_ = since_start();
  return go;
}

bool Machine::after_round() {
  if (options_.mode == kModeVerify) return false;
  print_measurement("BALLAST-MEASURED");
  if (options_.interactive) return told_to_go();
  return ++rounds_done_ < options_.rounds;
}

bool Machine::told_to_go() const {
  char line[64];
  return fgets(line, sizeof line, stdin) != nullptr && strcmp(line, "go\n") == 0;
}

void Machine::flip_a_bit() {
  uint32_t page = 0;
  while (page_kind(&options_.content, page, 0) == kZero) ++page;
  ram_[pages_address_ + size_t{page} * kPageBytes + 3000] ^= std::byte{4};
}

void Machine::print_measurement(const char* what) const {
  std::vector<uint64_t> histogram(kBuckets);
  uint64_t pages = 0, ticks = 0;
  for (uint32_t i = 0; i < options_.vcpus; ++i) {
    const Mailbox* m = mailbox(i);
    for (uint32_t b = 0; b < kBuckets; ++b) histogram[b] += m->histogram[b];
    pages += m->measured_pages;
    ticks += m->measured_ticks;
  }
  const double us_per_tick = 1e3 / static_cast<double>(vcpus_[0]->tsc_khz());
  auto percentile = [&](double part) {
    uint64_t seen = 0;
    for (uint32_t b = 0; b < kBuckets; ++b) {
      seen += histogram[b];
      if (static_cast<double>(seen) >= part * static_cast<double>(pages))
        return bucket_ticks(b) * us_per_tick;
    }
    return 0.0;
  };
  printf(
      "%s {\"pages\":%llu,\"mean_us\":%.3f,\"p50_us\":%.3f,\"p90_us\":%.3f,\"p99_us\":%.3f}\n",
      what, static_cast<unsigned long long>(pages),
      static_cast<double>(ticks) * us_per_tick / static_cast<double>(std::max<uint64_t>(pages, 1)),
      percentile(0.5), percentile(0.9), percentile(0.99));
  fflush(stdout);
}

Totals Machine::totals() const {
  Totals sum;
  for (const Totals& t : last_) {
    sum.filled += t.filled;
    sum.verified += t.verified;
    sum.writes += t.writes;
    sum.errors += t.errors;
  }
  return sum;
}

void Machine::print_done() const {
  const Totals sum = totals();
  bool complete = true;
  for (uint32_t i = 0; i < options_.vcpus; ++i) complete = complete && mailbox(i)->complete == 1;
  printf("BALLAST-DONE verified=%llu writes=%llu errors=%llu complete=%d seconds=%.1f\n",
         static_cast<unsigned long long>(sum.verified), static_cast<unsigned long long>(sum.writes),
         static_cast<unsigned long long>(sum.errors), complete, since_start());
  fflush(stdout);
}

}  // namespace
}  // namespace ballast::microvm

int main(int argc, char** argv) {
  return ballast::microvm::Machine(ballast::microvm::parse_options(argc, argv)).run();
}
