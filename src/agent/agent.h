// The agent: a small library that ballast-qemu preloads into QEMU. It hands guest RAM to ballastd
// and stays out of the way of everything else.
//
// It lives in a stranger's process, hence its rules: no exceptions, no heap, no libstdc++; errno
// survives every interposed call; nothing happens (no thread, no socket, no output) until the
// process maps guest RAM with BALLAST_SOCKET set; guest RAM is never touched from here, because
// that touch would wait for the daemon. (One exception: pages that are away have their frame, and
// are copied out.)
//
// Threads: any QEMU thread may enter an interposer. `regions` entries are immutable once
// `region_count` (release) covers them, except `gone` and `advice`. The agent thread alone reads
// the socket after the first hand-off.
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include <atomic>

#include "proto/agent_wire.h"

namespace ballast::agent {

inline constexpr uint64_t kPageBytes = 4096;
inline constexpr uint64_t kSmallestRegionBytes = 1 << 20;
inline constexpr int kKeptMax = 4;  // tables, arena, swap, pool: a prefix of this list

// ---- settings.cc: what the environment says.
inline constexpr uint64_t kUnset = UINT64_MAX;
struct Settings {
  bool active = false;  // BALLAST_SOCKET was set
  uint64_t memory_bytes = 0;
  uint64_t min_bytes = 0;
  uint64_t limit_bytes = kUnset;
  uint64_t balloon_max_bytes = kUnset;
  char shares[16] = {};
  char socket[108] = {};  // sun_path's size
  char name[128] = {};
  char uuid[64] = {};
  char qmp[1024] = {};
  char salt[129] = {};
  int pshare = -1;  // 0 or 1; −1: unset
};
// Read once, at the first call. An unusable environment ends the process with a message.
const Settings& settings();
// Children of QEMU (network scripts, helpers) must not be managed: removes our variables and
// LD_PRELOAD.
void forget_environment();

// Writes "ballast: <text>\n" to stderr in one piece.
__attribute__((format(printf, 1, 2))) void say(const char* format, ...);
[[noreturn]] __attribute__((format(printf, 1, 2))) void die(const char* format, ...);

// ---- regions.cc: guest RAM.
inline constexpr int kAdviceKinds = 4;
inline constexpr int kNoAdvice = -1;
struct Region {
  uint64_t address = 0;
  uint64_t size = 0;
  uint64_t offset = 0;      // in the RAM file
  uint64_t first_page = 0;  // index of its first page within the VM
  dev_t device = 0;         // with inode: the RAM file
  ino_t inode = 0;
  int ram_fd = -1;                // our own duplicate, kept for life
  std::atomic<bool> gone{false};  // QEMU unmapped it: the addresses may hold something else now
  // How QEMU mapped it, so that a part can be mapped again just so: the kernel merges mappings only
  // when all of this agrees.
  int protection = 0;
  int reserve_flag = 0;           // MAP_NORESERVE, or 0
  int advice[kAdviceKinds] = {};  // the last madvise() of each kind, or kNoAdvice; lock_mappings()
};
// NOLINTBEGIN(bugprone-dynamic-static-initializers): their definitions are constinit.
extern Region regions[kAgentRegionsMax];
extern std::atomic<unsigned> region_count;
extern int userfault_fd;
// This process is a fork()ed child of the one that handed its RAM over, or the agent gave up before
// the VM began.
extern std::atomic<bool> inert;
// NOLINTEND(bugprone-dynamic-static-initializers)

// Whether a mapping that QEMU asks for is guest RAM. Cheap for everything that is not.
bool is_guest_ram(size_t length, int protection, int flags, int fd);
// After the mapping was made: registers it and hands it over; blocks for the verdict. False: the
// caller must undo the mapping and fail with ENOMEM (the reason was printed). A refused first
// region ends the process.
bool adopt_region(void* address, size_t length, int protection, int flags, int fd, off_t offset);
// Before an munmap: regions that overlap are left alone from now on.
void forget_region(void* address, size_t length);
// The region that holds the whole range, if QEMU has not unmapped it; else null.
const Region* find_region(uint64_t address, uint64_t bytes);
bool overlaps_region(uint64_t address, uint64_t bytes);  // live ones
bool register_range(uint64_t address, uint64_t bytes);   // with the userfaultfd
// QEMU's madvise() on guest RAM, in its place.
int advise_ram(void* address, size_t length, int advice);

// ---- discards.cc: the shared bitmap of pages that the guest gave back.
int discard_bitmap_fd();  // made at the first call; −1 with errno if impossible
void mark_discarded(uint64_t first_page, uint64_t end_page);  // whole pages of the VM
bool any_discarded(uint64_t first_page, uint64_t end_page);
// A part of a RAM file that QEMU frees. Sets bits for the pages that it covers completely.
struct FileRange {
  dev_t device = 0;
  ino_t inode = 0;
  uint64_t start = 0;
  uint64_t end = 0;
};
// False: no guest RAM.
bool is_ram_range(int fd, off_t offset, off_t length, FileRange& range);
// Around what frees it: the range's pages are at home and their bits set, and no mapping changes
// until end_discard. False with errno: it must not be freed, and end_discard not be called.
bool begin_discard(const FileRange& range);
void end_discard(const FileRange& range);
// Tells the daemon, unless it has been told already.
void notify_discards();
// After a new connection: a notification may have gone to the old one.
void repeat_discards_notification();

// ---- handoff.cc: the messages.
enum class Verdict { kAccepted, kRefused, kLost };
struct HandOffResult {
  Verdict verdict = Verdict::kLost;
  char text[kAgentRefusalBytesMax + 1] = {};
};
// Sends regions [0, count) with all descriptors over `socket` and reads messages until the verdict.
// Kept descriptors that come with it replace the old ones. A timeout of −1 waits for ever.
void hand_off(int socket, unsigned count, int timeout_ms, HandOffResult& result);
// Reads and performs one message that is not a verdict. False: the connection is lost or spoke
// nonsense.
bool serve_message(int socket);
int pool_fd();  // of the share pool, kept for the daemon; −1: none
bool read_exactly(int socket, void* into, size_t bytes);

// ---- requests.cc: what the daemon asks for.
// Performs a request whose header was read. False as above.
bool serve_request(int socket, const AgentMessage& header);

// ---- away.cc: pages that are mapped to the share pool instead of their RAM file. Results are 0 or
// an errno with which nothing was changed. The caller holds lock_mappings().
int share_range(const Region& region, const AgentShareRange& range, int pool);
int bring_home(const Region& region, uint64_t first_page, uint64_t end_page);
// As bring_home, but the bytes are given up: pages that were away are marked as discarded and their
// frames in the RAM file freed.
int drop_away(const Region& region, uint64_t first_page, uint64_t end_page);
// The addresses hold something else now.
void forget_away(uint64_t first_page, uint64_t end_page);
// The next stretch of pages in [first_page, end_page) that are not away, empty at the end.
struct Stretch {
  uint64_t first = 0;
  uint64_t end = 0;
};
Stretch next_home_stretch(uint64_t first_page, uint64_t end_page);

// The system calls themselves, past our own interposers.
void* raw_mmap(uint64_t address, uint64_t bytes, int protection, int flags, int fd,
               uint64_t offset);
int raw_madvise(uint64_t address, uint64_t bytes, int advice);

// ---- link.cc: the connection and the agent thread.
// The first region: connects, hands over, starts the thread. Ends the process when refused.
void open_link();
// Region number region_count was filled in: announces it through the agent thread and publishes it.
// False: refused, `text` says why.
bool announce_region(char* text, size_t text_bytes);
void send_on_link(const void* message, size_t bytes);  // best effort, never blocks
void forked_in_child();
// Held by whoever changes or zaps mappings of guest RAM, or frees pages of it. Never while waiting
// for the daemon.
void lock_mappings();
void unlock_mappings();

}  // namespace ballast::agent
