// The agent: a small library that ballast-qemu preloads into QEMU. It hands guest RAM to ballastd
// and stays out of the way of everything else.
//
// It lives in a stranger's process, hence its rules: no exceptions, no heap, no libstdc++; errno
// survives every interposed call; nothing happens (no thread, no socket, no output) until the
// process maps guest RAM with BALLAST_SOCKET set; guest RAM is never touched from here, because
// that touch would wait for the daemon.
//
// Threads: any QEMU thread may enter an interposer. `regions` entries are immutable once
// `region_count` (release) covers them, except `gone`. The agent thread alone reads the socket
// after the first hand-off.
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include <atomic>

#include "proto/agent_wire.h"

namespace ballast::agent {

inline constexpr uint64_t kPageBytes = 4096;
inline constexpr uint64_t kSmallestRegionBytes = 1 << 20;
inline constexpr int kKeptMax = 3;  // tables, arena, swap: a prefix of this list

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
struct Region {
  uint64_t address = 0;
  uint64_t size = 0;
  uint64_t offset = 0;      // in the RAM file
  uint64_t first_page = 0;  // index of its first page within the VM
  dev_t device = 0;         // with inode: the RAM file
  ino_t inode = 0;
  int ram_fd = -1;                // our own duplicate, kept for life
  std::atomic<bool> gone{false};  // QEMU unmapped it: the addresses may hold something else now
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
bool adopt_region(void* address, size_t length, int fd, off_t offset);
// Before an munmap: regions that overlap are never zapped again.
void forget_region(void* address, size_t length);

// ---- discards.cc: the shared bitmap of pages that the guest gave back.
int discard_bitmap_fd();  // made at the first call; −1 with errno if impossible
// Sets the bits of all pages that [offset, offset + length) of this file covers completely. False:
// no guest RAM.
bool mark_discards(int fd, off_t offset, off_t length);
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

// ---- link.cc: the connection and the agent thread.
// The first region: connects, hands over, starts the thread. Ends the process when refused.
void open_link();
// Region number region_count was filled in: announces it through the agent thread and publishes it.
// False: refused, `text` says why.
bool announce_region(char* text, size_t text_bytes);
void send_on_link(const void* message, size_t bytes);  // best effort, never blocks
void forked_in_child();
// Held while regions may be zapped, and by forget_region.
void lock_zapping();
void unlock_zapping();

}  // namespace ballast::agent
